"""``nox -s sampling -- --teacher``: numerical noise of GFN2-xTB, effect of warm starts, convergence of hard cases."""

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
# Diatomics by formula and distance in Å: stretched bonds, ion pairs and transition-metal oxides.
HARD = {
    (pair, distance): Atoms(pair, [[0, 0, 0], [0, 0, distance]])
    for pair in ("F2", "N2", "O2", "CO", "LiF", "NaCl", "HF", "FeO", "NiO", "CuO")
    for distance in (3.0, 4.0, 5.0)
    # Even number of electrons, singlet: the default for a data set that declares no spins.
    if Atoms(pair).numbers.sum() % 2 == 0
}
CYCLES = 500

Forces = NDArray[np.float64]


def noise(structures: Sequence[Atoms]) -> Iterator[str]:
    """Compare forces at each accuracy with converged ones, and CPU times with that of the first accuracy."""
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
    yield "| accuracy | RMS error of the force, eV/Å | largest error, eV/Å | relative CPU time |"
    yield "| --- | --- | --- | --- |"
    for one in ACCURACIES:
        error = np.concatenate(forces[one]) - np.concatenate(forces[CONVERGED])
        rms, largest = float(np.sqrt((error**2).mean())), float(np.abs(error).max())
        yield f"| {one:g} | {rms:.1e} | {largest:.1e} | {seconds[one] / seconds[ACCURACIES[0]]:.2f} |"


def warm_starts(molecules: Sequence[Sequence[Atoms]]) -> Iterator[str]:
    """Compare ways to start the SCF: a new calculator, a reused calculator, the density of another geometry."""
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
    yield "| start | relative CPU time | largest force difference per structure, eV/Å: median | largest |"
    yield "| --- | --- | --- | --- |"
    for way in ways:
        apart = [float(np.abs(a - b).max()) for a, b in zip(forces[way], forces[ways[0]], strict=True)]
        yield f"| {way} | {seconds[way] / seconds[ways[0]]:.2f} | {np.median(apart):.1e} | {max(apart):.1e} |"


def nearest(structures: Sequence[Atoms]) -> str:
    """Return the shortest distance divided by the sum of the covalent radii, also if Å are misread as bohr."""
    found = []
    for atoms in structures:
        first, second = np.triu_indices(len(atoms), 1)
        radii = covalent_radii[atoms.numbers]
        found.append(float((pdist(atoms.positions) / (radii[first] + radii[second])).min()))
    as_bohr = [Bohr * value for value in found]
    return (
        f"shortest distance / sum of covalent radii, {len(found)} structures: {min(found):.2f} to "
        f"{max(found):.2f}; with Å misread as bohr {min(as_bohr):.2f} to {max(as_bohr):.2f}"
    )


def hard_cases() -> Iterator[str]:
    """Count the structures of ``HARD`` that converge with default settings or by a fallback, and list the failures."""
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
    yield f"{len(HARD)} hard cases: {at_once} converge at once, {other} by fallback, failed: {', '.join(failed) or '-'}"


def mixing(atoms: Atoms) -> str:
    """Time ``CYCLES`` unconverged SCF cycles with an unlimited mixer memory and with a memory of 20, in CPU-seconds."""
    teacher: Any = make_teacher("xtb")
    took = []
    for memory in ({}, {"mixer-memory": 20}):
        start = time.thread_time()
        try:
            teacher._calculator(atoms, {"max-iter": CYCLES, **memory}).singlepoint()
        except RuntimeError:
            took.append(time.thread_time() - start)
    return f"{CYCLES} cycles of {atoms.symbols}: {took[0]:.2f} s, {took[1]:.2f} s with a mixer memory of 20"


def tables(molecules: Sequence[Sequence[Atoms]]) -> Iterator[str]:
    """Return all tables for the geometries of some molecules; the first geometry of a molecule is the original one."""
    from threadpoolctl import threadpool_limits

    make_teacher("xtb").label([])  # loads tblite's OpenMP library
    every = [atoms for geometries in molecules for atoms in geometries]
    with threadpool_limits(limits=1):
        yield from noise([geometries[-1] for geometries in molecules])
        yield ""
        yield from warm_starts(molecules)
        yield ""
        yield nearest(every)
        yield from hard_cases()
        yield mixing(HARD["CO", 4.0])
