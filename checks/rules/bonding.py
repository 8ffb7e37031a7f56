"""Checks of contract ``structures`` on bonds: bonds found from distances against the declared bond orders."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from hydrogate.checks.data.dataset import concatenate
from hydrogate.checks.engine.bounds import Bounds
from hydrogate.checks.engine.hashing import Keys, Sample, scattered
from hydrogate.checks.engine.partition import Ints, Part, Parts, Picked, picked
from hydrogate.checks.engine.registry import NotRun, Quantities, Rounds, Subject, ask, row_rule, rule, tallied
from hydrogate.checks.engine.row_counts import Rows, Tally
from hydrogate.checks.geometry.chemistry import sp3_carbon_bonds
from hydrogate.checks.geometry.observables import fragments


def isolated(part: Part) -> Ints:
    """Return the indices of the structures without a cell, in which no bond can cross a cell boundary.

    Raises
    ------
    NotRun
        All structures are periodic.
    """
    rows = np.flatnonzero(~part.data.periodic)
    if not len(rows) and len(part.data):
        raise NotRun("all structures are periodic, and bonds across cell boundaries are not detected")
    return rows


@row_rule("structures", remedy="Split the structure, declare the fragments in its SMILES, or use profile clusters.")
def connected(part: Part, bounds: Bounds) -> Rows:
    """Number of fragments of each structure; the fragments that its SMILES declares count as one."""
    data, rows = part.data, isolated(part)
    found = fragments(data, part.bonds)[rows]
    declared = np.array([smiles.count(".") + 1 for smiles in data.smiles[rows].tolist()], dtype=np.int64)

    def describe(row: int) -> str:
        written = f" (its SMILES declares {declared[row]})" if data.smiles[rows[row]] else ""
        return f"{part.name(int(rows[row]))} has {found[row]} fragments{written}"

    return Rows(np.maximum(found - declared + 1, np.minimum(found, 1)), describe, rows)


@rule(
    "structures",
    remedy="The bond orders or the SMILES belong to other atoms: write the file again with its own bond orders.",
)
def bond_lengths_match_orders(subject: Subject, bounds: Bounds) -> Rounds:
    """C-C bonds that are sp3-sp3 in the SMILES have the length of such bonds; the SMILES matches the atoms."""
    settings = bounds.settings
    sample: Sample = yield from ask(partial(_written, size=settings["structures"], seed=settings["seed"]))
    if not len(sample.rows):
        raise NotRun("no structure has a SMILES, so no bond orders are declared")
    chosen: list[Picked] = yield from ask(partial(picked, rows=sample.rows))
    lengths, unmatched = _sp3_lengths(chosen)
    values = {"unmatched": len(unmatched) / len(chosen)}
    if lengths:
        everything = np.concatenate(lengths)
        # Statistical tolerance: in a rattled geometry the mean of n bonds can be this much too low by chance.
        chance = settings["standard_errors"] * everything.std()
        least = bounds.limits["mean"].min or 0.0
        short = [of_one.mean() < least - chance / np.sqrt(len(of_one)) for of_one in lengths]
        values |= {"mean": float(everything.mean()), "short": float(np.mean(short))}
    first = f" (first SMILES that does not match: {unmatched[0]})" if unmatched else ""
    return Quantities(values, len(chosen), f"structures{first}")


def _written(part: Part, size: int, seed: int) -> Sample:
    rows = isolated(part)
    return Sample.of(rows[part.data.smiles[rows] != ""] + part.rows.start, size, seed)


def _sp3_lengths(chosen: list[Picked]) -> tuple[list[np.ndarray], list[str]]:
    """Return the sp3-sp3 C-C bond lengths (Å) per structure that has any, and the names of SMILES mismatches."""
    data = concatenate([one.atoms for one in chosen])
    (place,) = Parts.of(data, atoms=len(data.numbers) + 1).places
    part = Part(place, Parts.of(data).whole)
    bonded = part.bonds
    hydrogens = np.bincount(part.geometry.partner, minlength=len(data.numbers))
    start = np.searchsorted(bonded.first, data.offset)
    lengths: list[np.ndarray] = []
    unmatched: list[str] = []
    for row, one in enumerate(chosen):
        own, of_row = data.atoms_of(row), slice(start[row], start[row + 1])
        pairs = np.column_stack([bonded.first[of_row], bonded.second[of_row]]) - own.start
        ends = sp3_carbon_bonds(one.smiles, data.numbers[own], hydrogens[own], pairs)
        if ends is None:
            unmatched.append(one.name)
        elif len(ends):
            between = data.positions[own][ends].astype(np.float64)
            lengths.append(np.linalg.norm(between[:, 0] - between[:, 1], axis=1))
    return lengths, unmatched


@rule(
    "structures",
    remedy="Remove the structure, or train a student with these elements, charge, spin and a larger cutoff.",
)
def student_fit(subject: Subject, bounds: Bounds) -> Rounds:
    """Number of properties that the student cannot represent: elements, charge, spin, fragments beyond its cutoff."""
    student = subject.student
    if student is None:
        raise NotRun("no student is declared")
    states: frozenset[tuple[int, int]]
    tally: Tally
    states, tally = yield from ask(
        _states, tallied(partial(_strange, student=student, twins=np.empty(0, dtype=np.int64)))
    )
    if student["reads_charge"] or len(states) < 2:
        return tally
    atoms, rows, charges, multiplicities = yield from ask(_same_atoms)
    twins = rows[_of_another_state(atoms, charges, multiplicities)]
    if len(twins):
        tally = yield from ask(tallied(partial(_strange, student=student, twins=twins)))
    return tally


def _states(part: Part) -> frozenset[tuple[int, int]]:
    """Return the pairs of charge and spin multiplicity that occur."""
    states = np.unique(np.column_stack([part.data.charge, part.data.spin_multiplicity]), axis=0)
    return frozenset((charge, spin) for charge, spin in states.tolist())


def _same_atoms(part: Part) -> tuple[Keys, Ints, Ints, Ints]:
    """Return per structure: a key of numbers and positions (to 1e-3 Å), index, charge and spin multiplicity."""
    data = part.data
    rounded = np.round(data.positions.astype(np.float64) * 1e3).astype(np.int64)
    key = scattered(data.numbers)
    for column in (*rounded.T, np.arange(len(key)) - data.offset[data.structure_of_atom]):
        key = scattered(key ^ scattered(column))
    of_structure = np.zeros(len(data), dtype=np.uint64)
    np.add.at(of_structure, data.structure_of_atom, key)
    return of_structure, np.array(part.rows), data.charge.astype(np.int64), data.spin_multiplicity.astype(np.int64)


def _of_another_state(atoms: Keys, charges: Ints, multiplicities: Ints) -> np.ndarray:
    """Return a (K,) mask: True if the first structure with the same atoms has another charge or multiplicity."""
    _, first, of = np.unique(atoms, return_index=True, return_inverse=True)
    here = first[of]
    differ: np.ndarray = (charges != charges[here]) | (multiplicities != multiplicities[here])
    return differ


def _strange(part: Part, student: Mapping[str, Any], twins: Ints) -> Rows:
    data = part.data
    reasons: list[list[str]] = [[] for _ in range(len(data))]

    def refuse(rows: np.ndarray, why: str) -> None:
        for row in rows.tolist():
            reasons[row].append(why)

    strange = ~np.isin(data.numbers, student["elements"])
    refuse(np.unique(data.structure_of_atom[strange]), "an element that the student does not support")
    refuse(np.flatnonzero(~np.isin(data.charge, student["charges"])), "a charge that the student does not support")
    known = np.isin(data.spin_multiplicity, student["spin_multiplicities"])
    refuse(np.flatnonzero(~known), "a spin multiplicity that the student does not support")
    refuse(part.own(twins), "the same atoms as another structure at another charge or spin")
    for row in np.flatnonzero((fragments(data, part.bonds) > 1) & ~data.periodic).tolist():
        positions = data.positions[data.atoms_of(row)]
        if connected_components(cdist(positions, positions) < student["cutoff"], directed=False)[0] > 1:
            reasons[row].append(f"fragments farther apart than the student's cutoff of {student['cutoff']:g} Å")
    count = np.array([len(why) for why in reasons], dtype=np.float64)
    return Rows(count, lambda row: f"{part.name(row)} has {' and '.join(reasons[row]) or 'nothing unsupported'}")
