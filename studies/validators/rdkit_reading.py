"""RDKit: parse each structure as XYZ and each SMILES; each failure is a complaint."""

from functools import cache

from ase.data import chemical_symbols

from hydrogate.checks.data.dataset import Dataset
from studies.validators import of_rows

SOURCE = "https://www.rdkit.org/docs/source/rdkit.Chem.rdmolfiles.html"


def complaints(data: Dataset) -> list[str]:
    """Return the structures that RDKit cannot parse, as XYZ or from their SMILES."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        no_xyz = [row for row in range(len(data)) if Chem.MolFromXYZBlock(_xyz(data, row)) is None]
        no_smiles = [row for row, smiles in enumerate(data.smiles) if smiles and not _reads(smiles)]
    return of_rows(data, no_xyz, "not readable as XYZ") + of_rows(data, no_smiles, "SMILES not readable")


@cache
def _reads(smiles: str) -> bool:
    from rdkit import Chem

    return Chem.MolFromSmiles(smiles) is not None


def _xyz(data: Dataset, row: int) -> str:
    own = data.atoms_of(row)
    symbols = (chemical_symbols[number] for number in data.numbers[own].tolist())
    places = data.positions[own].tolist()
    lines = (f"{symbol} {x:.6f} {y:.6f} {z:.6f}" for symbol, (x, y, z) in zip(symbols, places, strict=True))
    return "\n".join((str(own.stop - own.start), "", *lines, ""))
