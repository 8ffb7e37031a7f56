"""OpenFF's rules for data sets submitted to QCArchive (STANDARDS 4, validation and filters), reimplemented."""

from collections import Counter
from functools import cache
from typing import NamedTuple

import numpy as np
from ase.data import covalent_radii
from ase.units import Bohr

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.geometry.observables import per_structure
from studies.validators import of_rows

SOURCE = "https://github.com/openforcefield/qca-dataset-submission/blob/master/STANDARDS.md"
# Source: scaffold_validation.py of that repository, "Valid Coordinates": shorter distances suggest another unit.
MIN_DISTANCE = 1.5 * Bohr
# Source: ConnectivityFilter of openff-qcsubmit, and guess_connectivity of QCElemental, which it calls.
TOLERANCE = 1.2

Environments = Counter[tuple[int, tuple[int, ...]]]
"""Counts of (element, sorted neighbour elements): independent of atom order, equal for molecules with equal bonds."""


class Written(NamedTuple):
    """Content of a SMILES with explicit hydrogens: atom environments, total charge and number of fragments."""

    environments: Environments
    charge: int
    fragments: int


def complaints(data: Dataset) -> list[str]:
    """Return the entries that would fail."""
    rows: dict[str, list[int]] = {}
    for row in range(len(data)):
        for rule in _broken(data, row):
            rows.setdefault(rule, []).append(row)
    found = [complaint for rule, those in rows.items() for complaint in of_rows(data, those, rule)]
    if data.energy is not None and data.forces is not None:
        finite = per_structure(np.all(np.isfinite(data.forces), axis=1).astype(np.int8), data, np.minimum) > 0
        incomplete = np.flatnonzero(~(finite & np.isfinite(data.energy)))
        found += of_rows(data, incomplete.tolist(), "the record is not complete (RecordStatusFilter)")
    return found + [f"{record.source}: the record is not complete" for record in data.quarantine]


def _broken(data: Dataset, row: int) -> list[str]:
    own = data.atoms_of(row)
    positions, numbers = data.positions[own].astype(np.float64), data.numbers[own].astype(np.int64)
    if not np.isfinite(positions).all():
        return ["no valid coordinates"]
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    broken = []
    # As in the original rule, coincident atoms are ignored.
    if len(apart := distance[distance > 0]) and apart.min() < MIN_DISTANCE:
        broken.append("no valid coordinates: a distance below 1.5 bohr")
    written = _read(str(data.smiles[row]))
    if written is None:
        return [*broken, "no valid CMILES"]
    if written.environments.total() != len(numbers) or _elements(written) != Counter(numbers.tolist()):
        return [*broken, "no valid CMILES: different atoms"]
    if written.fragments > 1:
        broken.append("more than one molecule")
    if written.charge != data.charge[row]:
        broken.append("the total charge differs from that of the CMILES")
    bonded = distance < TOLERANCE * (covalent_radii[numbers][:, None] + covalent_radii[numbers][None])
    if _environments(numbers, bonded) != written.environments:
        broken.append("the connectivity differs from that of the CMILES (ConnectivityFilter)")
    return broken


def _elements(written: Written) -> Counter[int]:
    found: Counter[int] = Counter()
    for (number, _), count in written.environments.items():
        found[number] += count
    return found


def _environments(numbers: np.ndarray, bonded: np.ndarray) -> Environments:
    return Counter(
        (number, tuple(sorted(numbers[near].tolist()))) for number, near in zip(numbers.tolist(), bonded, strict=True)
    )


@cache
def _read(smiles: str) -> Written | None:
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles) if smiles else None
    if mol is None:
        return None
    mol = Chem.AddHs(mol)
    found: Environments = Counter(
        (atom.GetAtomicNum(), tuple(sorted(near.GetAtomicNum() for near in atom.GetNeighbors())))
        for atom in mol.GetAtoms()
    )
    return Written(found, Chem.GetFormalCharge(mol), len(Chem.GetMolFrags(mol)))
