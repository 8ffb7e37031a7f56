"""ASE: write the data set as extended XYZ and read it back; each error or warning is a complaint."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from ase.calculators.singlepoint import SinglePointCalculator

from hydrogate.checks.data.dataset import Dataset

SOURCE = "https://ase-lib.org/ase/io/io.html"


def complaints(data: Dataset) -> list[str]:
    """Return ASE's errors and warnings, and a complaint if numbers of atoms change on reading."""
    from ase.io import read, write

    frames = [data.to_atoms(row) for row in range(len(data))]
    if data.energy is not None and data.forces is not None:
        for row, atoms in enumerate(frames):
            labels = {"energy": float(data.energy[row]), "forces": data.forces[data.atoms_of(row)]}
            atoms.calc = SinglePointCalculator(atoms, **labels)  # type: ignore[no-untyped-call]
    with TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", DeprecationWarning)  # concerns the reading code, not the data
        path = Path(folder) / "data.extxyz"
        try:
            write(path, frames, format="extxyz")
            back = read(path, index=":", format="extxyz")
        # ASE may raise any exception for a damaged file.
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]
    lost = [] if [len(atoms) for atoms in back] == data.sizes.tolist() else ["the structures read back differ"]
    return sorted({f"{warning.category.__name__}: {warning.message}" for warning in said}) + lost
