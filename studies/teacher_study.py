"""``nox -s sampling -- --teacher``: what GFN2-xTB's noise is, what warm starts would do to it, how hard cases end."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.units import Bohr, Hartree
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from hydrogate.models.teachers import Labels, make_teacher

CONVERGED = 1e-4  # accuracy
ACCURACIES = (1.0, 0.1, 0.01)
# Of two atoms at a distance in Å: stretched bonds, ion pairs and oxides of transition metals.
HARD = {
    (pair, distance): Atoms(pair, [[0, 0, 0], [0, 0, distance]])
    for pair in ("F2", "N2", "O2", "CO", "LiF", "NaCl", "HF", "FeO", "NiO", "CuO")
    for distance in (3.0, 4.0, 5.0)
    # An even number of electrons, a singlet: what a data set without declared spins would ask for.
    if Atoms(pair).numbers.sum() % 2 == 0
}
CYCLES = 500

Forces = NDArray[np.float64]


def noise(structures: Sequence[Atoms]) -> Iterator[str]:
    """Forces at each accuracy against converged ones, and the CPU time over that of the first."""
    teachers = {one: make_teacher("xtb", settings={"accuracy": one}) for one in (*ACCURACIES, CONVERGED)}
    forces: dict[float, list[Forces]] = {one: [] for one in teachers}
    seconds = dict.fromkeys(teachers, 0.0)
    for atoms in structures:
        for one, teacher in teachers.items():
            start = time.thread_time()
            (labels,) = teacher.label([atoms])
            seconds[one] += time.thread_time() - start
            assert isinstance(labels, Labels)
            forces[one].append(labels.forces)
    yield "| accuracy | RMS error of the force, eV/Å | largest | CPU |"
    yield "| --- | --- | --- | --- |"
    for one in ACCURACIES:
        error = np.concatenate(forces[one]) - np.concatenate(forces[CONVERGED])
        rms, largest = float(np.sqrt((error**2).mean())), float(np.abs(error).max())
        yield f"| {one:g} | {rms:.1e} | {largest:.1e} | {seconds[one] / seconds[ACCURACIES[0]]:.2f} |"


def warm_starts(molecules: Sequence[Sequence[Atoms]]) -> Iterator[str]:
    """Geometries of one molecule with one calculator, and from the density of another geometry."""
    teacher: Any = make_teacher("xtb")
    ways = ("each by itself", "one calculator", "from the geometry before", "from the first geometry")
    seconds = dict.fromkeys(ways, 0.0)
    forces: dict[str, list[Forces]] = {way: [] for way in ways}
    for first, *others in molecules:
        for way in ways:
            start = time.thread_time()
            calculator = teacher._calculator(first, {})
            parent = result = calculator.singlepoint()
            results = []
            for atoms in others:
                if way == "each by itself":
                    calculator = teacher._calculator(atoms, {})
                else:
                    calculator.update(atoms.positions / Bohr)
                guess = {"from the geometry before": result, "from the first geometry": parent}.get(way)
                result = calculator.singlepoint(guess, copy=True) if guess else calculator.singlepoint()
                results.append(result)
            seconds[way] += time.thread_time() - start
            forces[way] += [np.array(result.get("gradient")) * (Hartree / Bohr) for result in results]
    yield "| start | CPU | largest difference in a structure's forces, eV/Å: median | largest |"
    yield "| --- | --- | --- | --- |"
    for way in ways:
        apart = [float(np.abs(a - b).max()) for a, b in zip(forces[way], forces[ways[0]], strict=True)]
        yield f"| {way} | {seconds[way] / seconds[ways[0]]:.2f} | {np.median(apart):.1e} | {max(apart):.1e} |"


def nearest(structures: Sequence[Atoms]) -> str:
    """The nearest pair over the sum of its covalent radii, as it is and where Å are taken for bohr."""
    found = []
    for atoms in structures:
        first, second = np.triu_indices(len(atoms), 1)
        radii = covalent_radii[atoms.numbers]
        found.append(float((pdist(atoms.positions) / (radii[first] + radii[second])).min()))
    as_bohr = [Bohr * value for value in found]
    return (
        f"nearest pair over the sum of its covalent radii, {len(found)} structures: {min(found):.2f} to "
        f"{max(found):.2f}; with Å for bohr {min(as_bohr):.2f} to {max(as_bohr):.2f}"
    )


def hard_cases() -> Iterator[str]:
    """How many of ``HARD`` converge at once, how many in another way, and which in none."""
    teacher: Any = make_teacher("xtb")
    at_once, failed = 0, []
    for (pair, distance), atoms in HARD.items():
        try:
            teacher._calculator(atoms, {}).singlepoint()
            at_once += 1
            continue
        except RuntimeError:
            (answer,) = teacher.label([atoms])
        if not isinstance(answer, Labels):
            failed.append(f"{pair} at {distance:g} Å")
    other = len(HARD) - at_once - len(failed)
    yield f"{len(HARD)} hard cases: {at_once} converge at once, {other} in another way, not: {', '.join(failed) or '-'}"


def mixing(atoms: Atoms) -> str:
    """CPU-seconds of ``CYCLES`` cycles that do not converge, with all in the mixer's memory and with 20."""
    teacher: Any = make_teacher("xtb")
    took = []
    for memory in ({}, {"mixer-memory": 20}):
        start = time.thread_time()
        try:
            teacher._calculator(atoms, {"max-iter": CYCLES, **memory}).singlepoint()
        except RuntimeError:
            took.append(time.thread_time() - start)
    return f"{CYCLES} cycles of {atoms.symbols}: {took[0]:.2f} s, {took[1]:.2f} s remembering 20 of them"


def tables(molecules: Sequence[Sequence[Atoms]]) -> Iterator[str]:
    """All of it, of the geometries of some molecules, each molecule's own first."""
    from threadpoolctl import threadpool_limits

    make_teacher("xtb").label([])  # tblite's OpenMP library is loaded
    every = [atoms for geometries in molecules for atoms in geometries]
    with threadpool_limits(limits=1):
        yield from noise([geometries[-1] for geometries in molecules])
        yield ""
        yield from warm_starts(molecules)
        yield ""
        yield nearest(every)
        yield from hard_cases()
        yield mixing(HARD["CO", 4.0])
