"""Checks of contract ``structures`` on bonds: the ones that distances show against the ones written down."""

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from hydrogate.checks.bounds import Bounds
from hydrogate.checks.chemistry import sp3_carbon_bonds
from hydrogate.checks.dataset import Dataset
from hydrogate.checks.observables import fragments
from hydrogate.checks.rules import NotRun, Quantities, Rows, Subject, rule


def _isolated(subject: Subject) -> np.ndarray:
    """The structures in which no bond can cross a cell's boundary."""
    rows = np.flatnonzero(~subject.data.periodic)
    if not len(rows) and len(subject.data):
        raise NotRun("all structures are periodic, and bonds across a cell's boundary are not looked for")
    return rows


@rule("structures", remedy="Split the structure, declare the fragments in its SMILES, or use profile clusters.")
def connected(subject: Subject, bounds: Bounds) -> Rows:
    """Fragments of each structure, those beyond the first that its SMILES declares not counted."""
    data, rows = subject.data, _isolated(subject)
    found = fragments(data, subject.bonds)[rows]
    declared = np.array([smiles.count(".") + 1 for smiles in data.smiles[rows].tolist()], dtype=np.int64)

    def describe(row: int) -> str:
        written = f", its SMILES declares {declared[row]}" if data.smiles[rows[row]] else ""
        return f"{data.name(int(rows[row]))} has {found[row]} fragments{written}"

    return Rows(np.maximum(found - declared + 1, np.minimum(found, 1)), describe, rows)


@rule(
    "structures",
    remedy="The bond orders or the SMILES are not these atoms' own: write the file again with its bond orders.",
)
def bond_lengths_match_orders(subject: Subject, bounds: Bounds) -> Quantities:
    """C-C bonds that the SMILES makes sp3-sp3 are as long as such bonds are; the SMILES describes these atoms."""
    data, bonded, rows = subject.data, subject.bonds, _isolated(subject)
    written = rows[data.smiles[rows] != ""]
    if not len(written):
        raise NotRun("no structure has a SMILES, so that no bond orders are written down")
    random = np.random.default_rng(bounds.settings["seed"])
    chosen = np.sort(random.choice(written, min(bounds.settings["structures"], len(written)), replace=False))
    hydrogens = np.bincount(subject.geometry.partner, minlength=len(data.numbers))
    start = np.searchsorted(bonded.first, data.offset)
    lengths: list[np.ndarray] = []
    unmatched: list[int] = []
    for row in chosen.tolist():
        own, of_row = data.atoms_of(row), slice(start[row], start[row + 1])
        pairs = np.column_stack([bonded.first[of_row], bonded.second[of_row]]) - own.start
        ends = sp3_carbon_bonds(str(data.smiles[row]), data.numbers[own], hydrogens[own], pairs)
        if ends is None:
            unmatched.append(row)
        elif len(ends):
            between = data.positions[own][ends].astype(np.float64)
            lengths.append(np.linalg.norm(between[:, 0] - between[:, 1], axis=1))
    values = {"unmatched": len(unmatched) / len(chosen)}
    if lengths:
        everything = np.concatenate(lengths)
        # What chance (a rattled geometry) takes from a mean of n bonds is no fault of the structure.
        chance = bounds.settings["standard_errors"] * everything.std()
        least = bounds.limits["mean"].min or 0.0
        short = [of_one.mean() < least - chance / np.sqrt(len(of_one)) for of_one in lengths]
        values |= {"mean": float(everything.mean()), "short": float(np.mean(short))}
    first = f" (first of which the SMILES does not describe: {data.name(unmatched[0])})" if unmatched else ""
    return Quantities(values, len(chosen), f"structures{first}")


@rule(
    "structures", remedy="Leave the structure out, or train a student that knows the element, the charge or the range."
)
def student_fit(subject: Subject, bounds: Bounds) -> Rows:
    """What the student cannot represent of each structure: elements, charge, spin, fragments out of its reach."""
    data, student = subject.data, subject.student
    if student is None:
        raise NotRun("no student was declared")
    reasons: list[list[str]] = [[] for _ in range(len(data))]

    def refuse(rows: np.ndarray, why: str) -> None:
        for row in rows.tolist():
            reasons[row].append(why)

    strange = ~np.isin(data.numbers, student["elements"])
    refuse(np.unique(data.structure_of_atom[strange]), "an element that the student does not know")
    refuse(np.flatnonzero(~np.isin(data.charge, student["charges"])), "a charge that the student does not know")
    known = np.isin(data.spin_multiplicity, student["spin_multiplicities"])
    refuse(np.flatnonzero(~known), "a spin multiplicity that the student does not know")
    if not student["reads_charge"]:
        refuse(_same_atoms_other_charge(data), "the atoms of another structure at another charge or spin")
    for row in np.flatnonzero((fragments(data, subject.bonds) > 1) & ~data.periodic).tolist():
        positions = data.positions[data.atoms_of(row)]
        if connected_components(cdist(positions, positions) < student["cutoff"], directed=False)[0] > 1:
            reasons[row].append(f"fragments beyond the student's cutoff of {student['cutoff']:g} Å")
    count = np.array([len(why) for why in reasons], dtype=np.float64)
    return Rows(count, lambda row: f"{data.name(row)} has {' and '.join(reasons[row]) or 'nothing strange'}")


def _same_atoms_other_charge(data: Dataset) -> np.ndarray:
    """Structures with the numbers and positions (to 1e-3 Å) of another that has another charge or multiplicity."""
    seen: dict[bytes, tuple[int, int]] = {}
    found: list[int] = []
    if len(set(zip(data.charge.tolist(), data.spin_multiplicity.tolist(), strict=True))) < 2:
        return np.empty(0, dtype=np.int64)
    for row in range(len(data)):
        own = data.atoms_of(row)
        atoms = data.numbers[own].tobytes() + np.round(data.positions[own].astype(np.float64), 3).tobytes()
        state = (int(data.charge[row]), int(data.spin_multiplicity[row]))
        if seen.setdefault(atoms, state) != state:
            found.append(row)
    return np.array(found, dtype=np.int64)
