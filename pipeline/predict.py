"""``hydrogate predict``: what a trained student says of anybody's structures, many at a time.

In:  a data set in any format that ``hydrogate check`` reads, and a student file.
Out: the same structures with the student's energies (eV) and forces (eV/Å), as the project's own HDF5 or as extxyz.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hydrogate.checks.dataset import Dataset
from hydrogate.checks.symmetry import Floats, Potential
from hydrogate.pipeline.hdf5 import write_dataset, written_whole
from hydrogate.pipeline.stage import progress_bar

SUFFIXES = (".h5", ".hdf5", ".extxyz", ".xyz")


def run(data: Dataset, student: Path, batch_size: int) -> Dataset:
    """``data`` with energies and forces by the student in the file ``student``.

    Raises
    ------
    FileNotFoundError, UnreadableStudent
        There is no such student.
    ValueError
        There are no structures, or one that the student was not taught (`UnsupportedStructure` names it).
    """
    from hydrogate.models.potential import predict
    from hydrogate.models.student_file import load_student

    if not len(data):
        raise ValueError(f"no structure to predict ({data!r})")
    potential = partial(predict, load_student(student), batch_size=batch_size)
    return predict_dataset(data, potential, student_identity(student), batch_size, "predict")


def student_identity(path: Path) -> dict[str, Any]:
    """What predictions of the student at ``path`` carry as their teacher."""
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
    """The structures of ``data`` with the answers of ``potential`` in place of any labels.

    Parameters
    ----------
    data : Dataset
    potential : Potential
    identity : mapping
        What the answers carry as their teacher.
    batch_size : int
        Structures at a time.
    task : str
        What the progress bar calls it.

    Raises
    ------
    ValueError
        An answer does not fit its structure, or the student was not taught one of them.
    """
    energies: list[float] = []
    forces: list[Floats] = []
    with progress_bar(task, total=len(data), unit="structures") as advance:
        for start in range(0, len(data), batch_size):
            some = [data.to_atoms(row) for row in range(start, min(start + batch_size, len(data)))]
            try:
                answers = potential(some)
            except ValueError as error:
                raise ValueError(f"{error} (counted from 0 at {data.name(start)})") from error
            if len(answers) != len(some):
                raise ValueError(f"the student gave {len(answers)} answers to {len(some)} structures")
            for row, (atoms, (energy, force)) in enumerate(zip(some, answers, strict=True), start):
                if np.shape(force) != (len(atoms), 3):
                    raise ValueError(
                        f"{data.name(row)}: the student gave forces of shape {np.shape(force)}, "
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
    """Write ``data`` whole, in the format that the suffix of ``path`` names."""
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
