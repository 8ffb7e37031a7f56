"""``hydrogate predict``: energies and forces of existing structures from a trained student, in batches.

In:  a data set in any format that ``hydrogate check`` reads, and a student file.
Out: the same structures with the student's energies (eV) and forces (eV/Å), as the project's HDF5 or as extxyz.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from scipy.spatial import KDTree

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.geometry.symmetry import Floats, Potential
from hydrogate.pipeline.program import progress_bar
from hydrogate.pipeline.storage.hdf5 import write_dataset, written_whole

SUFFIXES = (".h5", ".hdf5", ".extxyz", ".xyz")
# Atoms/Å³, above any real material. Diamond has the highest atom density, 0.176.
DENSEST = 2.0


def run(data: Dataset, student: Path, batch_size: int) -> Dataset:
    """Return ``data`` with energies and forces predicted by the student in the file ``student``.

    Raises
    ------
    FileNotFoundError, UnreadableStudent
        The student file is missing or unreadable.
    ValueError
        There are no structures, or one is too dense to be real, or outside what the student was trained on
        (`UnsupportedStructure` names it).
    """
    from hydrogate.models.potential import predict
    from hydrogate.models.student_file import load_student

    if not len(data):
        raise ValueError(f"no structure to predict ({data!r})")
    loaded = load_student(student)
    refuse_crowded(data, range(len(data)), loaded.cutoff)
    potential = partial(predict, loaded, batch_size=batch_size)
    return predict_dataset(data, potential, student_identity(student), batch_size, "predict")


def refuse_crowded(data: Dataset, rows: Iterable[int], cutoff: float) -> None:
    """Raise if a structure in ``rows`` of ``data`` has more pairs within ``cutoff`` (Å) than any real material.

    A student's memory and time grow with the number of pairs: 5,000 atoms within 5 Å have 23 million and took 3 GB.

    Raises
    ------
    ValueError
        The message names the first such structure.
    """
    most = DENSEST * 4 / 3 * np.pi * cutoff**3
    sizes = np.diff(data.offset)
    for row in rows:
        periodic = data.pbc is not None and bool(data.pbc[row].any())
        if not periodic and sizes[row] <= most:
            continue
        atoms = data.to_atoms(row)
        found = _neighbours(atoms.positions, cutoff)
        if periodic:
            found = max(found, len(atoms) / _volume(atoms, cutoff) * most / DENSEST)
        if found > most:
            raise ValueError(
                f"{data.name(row)}: about {found:.0f} neighbours per atom within {cutoff:g} Å, allowed at most "
                f"{most:.0f}, {DENSEST:g} atoms/Å³: its atoms overlap; check the units of its positions and of its "
                "cell"
            )


def _neighbours(positions: Floats, cutoff: float) -> float:
    """Return the mean number of neighbours over at least 1,000 atoms, if there are so many; images do not count."""
    if not len(positions) or not np.isfinite(positions).all():  # the student reports it
        return 0.0
    tree, some = KDTree(positions), KDTree(positions[:: max(1, len(positions) // 1000)])
    return float(some.count_neighbors(tree, cutoff)) / int(some.n) - 1


def _volume(atoms: Atoms, cutoff: float) -> float:
    """Return the volume (Å³) of a periodic structure; inf unless it is positive.

    Along non-periodic directions the extent of the atoms counts, but at least twice ``cutoff``.
    """
    cell = atoms.cell.array[atoms.pbc]
    if not (np.isfinite(cell).all() and np.isfinite(atoms.positions).all()):
        return np.inf
    free = np.linalg.svd(cell)[2][len(cell) :]
    extents = np.ptp(atoms.positions @ free.T, axis=0)
    volume = np.sqrt(np.linalg.det(cell @ cell.T)) * np.maximum(extents, 2 * cutoff).prod()
    return float(volume) if volume > 0 else np.inf


def student_identity(path: Path) -> dict[str, Any]:
    """Return the identity of the student at ``path``, stored with its predictions as their teacher."""
    from hydrogate.models.student_file import file_fingerprint, read_about

    about = read_about(path)
    return {
        "name": about["student"],
        "kind": "student",
        "size": about["size"],
        "fingerprint": file_fingerprint(path),
    }


def predict_dataset(
    data: Dataset, potential: Potential, identity: Mapping[str, Any], batch_size: int, task: str
) -> Dataset:
    """Return the structures of ``data`` with the predictions of ``potential`` in place of any labels.

    Parameters
    ----------
    data : Dataset
    potential : Potential
    identity : mapping
        Stored with the predictions as their teacher.
    batch_size : int
        Structures at a time.
    task : str
        Label of the progress bar.

    Raises
    ------
    ValueError
        A prediction has the wrong shape, or a structure is outside what the student was trained on.
    """
    energies: list[float] = []
    forces: list[Floats] = []
    with progress_bar(task, total=len(data), unit="structures") as advance:
        for start in range(0, len(data), batch_size):
            some = [data.to_atoms(row) for row in range(start, min(start + batch_size, len(data)))]
            try:
                answers = potential(some)
            except ValueError as error:
                raise ValueError(f"{error} (index 0 is {data.name(start)})") from error
            if len(answers) != len(some):
                raise ValueError(f"the student returned {len(answers)} predictions for {len(some)} structures")
            for row, (atoms, (energy, force)) in enumerate(zip(some, answers, strict=True), start):
                if np.shape(force) != (len(atoms), 3):
                    raise ValueError(
                        f"{data.name(row)}: the student returned forces of shape {np.shape(force)}, "
                        f"expected {(len(atoms), 3)}"
                    )
                energies.append(energy)
                forces.append(force)
            advance(len(some))
    return replace(
        data,
        energy=np.array(energies, dtype=np.float64),
        forces=np.concatenate(forces).astype(np.float32),
        dipole=None,
        charges=None,
        isolated_atom_energies=None,
        teacher=dict(identity),
        quarantine=(),
        n_read=len(data),
    )


def write_predictions(data: Dataset, path: Path) -> None:
    """Write ``data`` atomically, in the format given by the suffix of ``path``."""
    if path.suffix in (".h5", ".hdf5"):
        write_dataset(data, path)
        return
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    assert data.energy is not None and data.forces is not None
    frames = [data.to_atoms(row) for row in range(len(data))]
    for row, atoms in enumerate(frames):
        forces = data.forces[data.atoms_of(row)].astype(np.float64)
        results = {"energy": float(data.energy[row]), "forces": forces}
        atoms.calc = SinglePointCalculator(atoms, **results)  # type: ignore[no-untyped-call]
        if data.smiles[row]:
            atoms.info["smiles"] = str(data.smiles[row])
    with written_whole(path) as temporary:
        write(temporary, frames, format="extxyz")
