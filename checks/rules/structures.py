"""Contract ``structures``: what a data set of molecules must satisfy before anything is labelled."""

from functools import partial
from typing import cast

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from hydrogate.checks.data.dataset import UNKNOWN_HYDROGENS, Dataset
from hydrogate.checks.engine.bounds import Bounds
from hydrogate.checks.engine.hashing import Distinct, Keys, keys_of_text, scattered
from hydrogate.checks.engine.mergeable import Moments
from hydrogate.checks.engine.partition import Part
from hydrogate.checks.engine.registry import NotRun, Quantities, Rounds, Subject, ask, row_rule, rule
from hydrogate.checks.engine.row_counts import Rows, Tally
from hydrogate.checks.geometry.chemistry import expected_hydrogens_of_smiles, perceives
from hydrogate.checks.geometry.observables import are_finite, per_structure

NO_HYDROGEN = "no structure holds hydrogen, which this profile allows"


@row_rule("structures", "labels", "predictions", unit="values", remedy="Drop or recompute the structure.")
def finite(part: Part, bounds: Bounds) -> Rows:
    """No NaN or infinity, every atomic number an element's, every structure with atoms."""
    data = part.data
    bad = (data.sizes < 1).astype(np.float64)
    for values in () if are_finite(data) else (data.positions, data.forces):
        if values is not None:
            bad += per_structure((~np.isfinite(values)).sum(axis=1), data)
    if len(data.numbers) and not 1 <= data.numbers.min() <= data.numbers.max() <= 118:
        bad += per_structure((data.numbers == 0) | (data.numbers > 118), data)
    if data.energy is not None:
        bad += ~np.isfinite(data.energy)
    if data.cell is not None:
        bad += ~np.isfinite(data.cell).all(axis=(1, 2))
    return Rows(
        bad, lambda row: f"{part.name(row)} has {int(bad[row])} values that are not finite or no element, or no atoms"
    )


@rule("structures", remedy="Read the reasons in the quarantine of the data set; mend the input files or the reader.")
def quarantine_share(subject: Subject, bounds: Bounds) -> Rounds:
    """Records set aside over records read."""
    whole = subject.whole
    if not whole.n_read:
        raise NotRun("nobody counted the records read (only the pipeline's data sets carry that count)")
    # A label stage reads structures, a regenerate stage records, each of which may have become several structures.
    kept = whole.structures
    if not whole.has_energy:
        kept = len(np.unique((yield from ask(_records))))
    if lost := whole.n_read - whole.quarantined - kept:
        raise ValueError(f"{whole.n_read} records read, but {lost} of them are neither in the data set nor quarantined")
    return Quantities({"": whole.quarantined / whole.n_read}, whole.n_read, "records")


def _records(part: Part) -> Keys:
    """A key of each record that the structures came from."""
    return np.unique(scattered(keys_of_text(part.data.source) ^ scattered(part.data.source_index)))


@rule(
    "structures",
    unit="H atoms",
    remedy="Make them explicit where they belong: stage regenerate does, or RDKit's AddHs(mol, addCoords=True).",
)
def explicit_hydrogens(subject: Subject, bounds: Bounds) -> Rounds:
    """Explicit hydrogens equal the expected ones, structure by structure, exactly."""
    unknown, failures, untold, few_fail, many_fail = yield from ask(partial(_hydrogens, bounds=bounds))
    if subject.whole.structures and untold == subject.whole.structures:
        raise NotRun("periodic structures without a bond block or SMILES do not tell how much hydrogen is expected")
    settings = bounds.settings
    wide = failures > settings["max_perception_failures"] * max(unknown, 1) and unknown >= settings["min_perceptions"]
    tally = cast(Tally, many_fail if wide else few_fail)  # the rows of all parts are merged into tallies
    if not failures:
        return tally
    noun = f"structures (of {unknown} without a bond block or SMILES no valid bonds can be perceived in {failures})"
    return tally.of_noun(noun)


def _hydrogens(part: Part, bounds: Bounds) -> tuple[int, int, int, Rows, Rows]:
    """Structures in which bonds must be perceived; those where none can be; periodic ones that tell nothing.

    And the differences: where a failed perception alone is no proof, and where it is.
    """
    data = part.data
    explicit = per_structure(data.numbers == 1, data).astype(np.int64)
    expected = data.expected_hydrogens.astype(np.int64)
    for row in np.flatnonzero((expected == UNKNOWN_HYDROGENS) & (data.smiles != "")).tolist():
        expected[row] = expected_hydrogens_of_smiles(data.smiles[row])
    unknown = expected == UNKNOWN_HYDROGENS
    untold, imperceptible = part.once(_perception)
    failed = np.zeros(len(data), dtype=bool)
    failed[untold] = imperceptible
    electrons = per_structure(data.numbers, data).astype(np.int64) - data.charge
    odd = (electrons - (data.spin_multiplicity - 1)) % 2 != 0
    # A molecule that lost one hydrogen is a radical to every reader that takes the multiplicity from the electrons.
    odd |= (data.spin_multiplicity > 1) & (not bounds.settings["may_be_radical"])
    bare = (explicit == 0) & (per_structure(data.numbers == 6, data) >= bounds.settings["min_carbons_of_bare"])
    difference = np.where(unknown, 0, np.abs(explicit - expected)).astype(np.float64)

    def describe(row: int) -> str:
        has = f"{part.name(row)} has {explicit[row]} explicit H"
        return (
            f"{has} and no valid bonds can be perceived"
            if failed[row]
            else (f"{has}, its valences imply {expected[row]}")
        )

    proved = Rows(np.where(failed & (odd | bare), np.nan, difference), describe)
    return (
        int(np.count_nonzero(unknown & ~data.periodic)),
        int(np.count_nonzero(failed)),
        int(np.count_nonzero(unknown & data.periodic)),
        proved,
        Rows(np.where(failed, np.nan, difference), describe),
    )


def _perception(part: Part) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Structures with neither a bond block nor a SMILES nor a cell, and whether no bonds can be perceived in each."""
    data = part.data
    untold = np.flatnonzero((data.expected_hydrogens == UNKNOWN_HYDROGENS) & (data.smiles == "") & ~data.periodic)
    return untold, np.array([not perceives(data.to_atoms(row)) for row in untold.tolist()], dtype=bool)


@row_rule("structures", remedy="Look at the structure: an atom that is missing, a torn bond, or a wrong charge.")
def perceivable_bonds(part: Part, bounds: Bounds) -> Rows:
    """Bonds that agree with the charge can be perceived, where neither a bond block nor a SMILES tells them."""
    untold, imperceptible = part.once(_perception)
    if len(part.data) and not len(untold):
        raise NotRun("every structure has a bond block or a SMILES, or is periodic")
    return Rows(
        imperceptible, lambda row: f"{part.name(int(untold[row]))} has no valid bonds that can be perceived", untold
    )


def element_counts(part: Part) -> dict[int, int]:
    """Atoms of each element."""
    return dict(zip(part.elements.tolist(), part.compositions.sum(axis=0).tolist(), strict=True))


def _formulas(part: Part, most: int) -> Distinct:
    """Distinct formulas, each as the sum of its atoms' keys, whatever their order."""
    data = part.data
    occupied = data.sizes > 0
    keys = np.zeros(len(data), dtype=np.uint64)
    if occupied.any():
        keys[occupied] = np.add.reduceat(scattered(np.arange(256))[data.numbers], data.offset[:-1][occupied])
    return Distinct.of(keys, most)


def _too_few(subject: Subject, bounds: Bounds, formulas: Distinct) -> str:
    """Why the data set is too small a sample of molecules to speak of a population; empty where it is not."""
    structures, distinct, wanted = subject.whole.structures, len(formulas.keys), bounds.settings
    if structures < wanted["min_structures"]:
        return f"{structures} structures, at least {wanted['min_structures']} needed"
    few = distinct < wanted["min_formulas"]
    return f"{distinct} distinct formulas, at least {wanted['min_formulas']} needed" if few else ""


@rule(
    "structures", remedy="A population of molecules holds about 50 % hydrogen: look for implicit hydrogen in the input."
)
def hydrogen_fraction(subject: Subject, bounds: Bounds) -> Rounds:
    """Hydrogen atoms over atoms, over the data set."""
    counts, formulas = yield from ask(element_counts, partial(_formulas, most=bounds.settings["min_formulas"]))
    atoms = sum(counts.values())
    value = counts.get(1, 0) / atoms if atoms else float("nan")
    few = _too_few(subject, bounds, formulas)
    return Quantities({"": value}, subject.whole.structures, undecided=few, only_warns=True)


@rule("structures", remedy="Compare the input files and the element filter with what was meant to be trained on.")
def element_fraction(subject: Subject, bounds: Bounds) -> Rounds:
    """Share of each element within its band; ``other`` bounds each further element, hydrogen excluded."""
    counts, formulas = yield from ask(element_counts, partial(_formulas, most=bounds.settings["min_formulas"]))
    atoms = max(sum(counts.values()), 1)
    named = {symbol: counts.get(atomic_numbers[symbol], 0) / atoms for symbol in bounds.limits if symbol != "other"}
    rest = counts.keys() - {1, *(atomic_numbers[symbol] for symbol in named)}
    values = {**named, "other": max((counts[z] / atoms for z in rest), default=0.0)}
    few = _too_few(subject, bounds, formulas)
    return Quantities(values, subject.whole.structures, undecided=few, only_warns=True)


@rule("structures", unit="Å", remedy="Sample further geometries (regenerate.sampling: rattle or md).")
def xh_spread(subject: Subject, bounds: Bounds) -> Rounds:
    """Standard deviation of the C-H length over the data set."""
    lengths: Moments = yield from ask(_ch_lengths)
    few = lengths.n < bounds.settings["min_bonds"]
    undecided = f"{lengths.n} C-H bonds, at least {bounds.settings['min_bonds']} needed" if few else ""
    return Quantities({"": lengths.deviation}, lengths.n, "C-H bonds", undecided)


def _ch_lengths(part: Part) -> Moments:
    shape = part.geometry
    lengths = shape.length[part.data.numbers[shape.partner] == 6]
    return Moments.of(lengths[np.isfinite(lengths)])


@row_rule(
    "structures",
    "labels",
    unit="Å",
    remedy="Look at the structure: units other than Å, H at the origin, or overlapping atoms.",
)
def min_distance(part: Part, bounds: Bounds) -> Rows:
    """No two atoms of a structure closer than the bound."""
    data, values = part.data, part.geometry.min_distance
    # An atom alone in its cell still has its images.
    several = np.flatnonzero((data.sizes > 1) | data.periodic)

    def describe(row: int) -> str:
        images = " (an image of a cell counts)" if data.periodic[several[row]] else ""
        return f"{part.name(int(several[row]))} has two atoms {values[several[row]]:.3f} Å apart{images}"

    return Rows(values[several], describe, several)


@row_rule(
    "structures", "labels", remedy="Place hydrogens with AddHs(addCoords=True), as pipeline/molecules/sdf.py does."
)
def hydrogen_bond_lengths(part: Part, bounds: Bounds) -> Rows:
    """Distance of each hydrogen to its nearest heavy atom over the sum of covalent radii; no H alone."""
    data, shape = part.data, part.geometry
    refuse_absent_hydrogen(data, bounds)
    hydrogens = part.compositions[:, part.elements == 1].sum(axis=1)
    structure = np.repeat(np.arange(len(data)), hydrogens)
    alone = (data.sizes == 1) & bounds.settings["may_be_alone"]
    # Where none is left out, none is copied.
    judged = ~alone[structure] if alone.any() else slice(None)

    def describe(row: int) -> str:
        bond = np.arange(len(structure))[judged][row]
        atom = int(shape.hydrogen[bond] - data.offset[structure[bond]])
        return (
            f"{part.name(int(structure[bond]))} has H atom {atom} at {shape.length[bond]:.3f} Å from its nearest heavy "
            f"atom, {shape.relative_length[bond]:.2f} of the sum of covalent radii"
        )

    return Rows(shape.relative_length[judged], describe, structure[judged], "hydrogens")


def refuse_absent_hydrogen(data: Dataset, bounds: Bounds) -> None:
    """Raise NotRun where nothing holds hydrogen and the bounds say that this may be so."""
    if bounds.settings["may_be_absent"] and not (data.numbers == 1).any():
        raise NotRun(NO_HYDROGEN)


@row_rule(
    "structures",
    unit="atoms",
    remedy="Look at the structure: atoms that were lost, or a structure that is no single molecule.",
)
def size(part: Part, bounds: Bounds) -> Rows:
    """Atoms of each structure."""
    data = part.data
    return Rows(data.sizes, lambda row: f"{part.name(row)} has {data.sizes[row]} atoms")


@row_rule("structures", remedy="Correct the charge or the spin multiplicity, or look for an atom that is missing.")
def charge_parity(part: Part, bounds: Bounds) -> Rows:
    """Electrons, charge and spin multiplicity agree: as many electrons as unpaired ones at least, and as even."""
    data = part.data
    electrons = per_structure(data.numbers, data).astype(np.int64) - data.charge
    unpaired = data.spin_multiplicity.astype(np.int64) - 1
    bad = ((electrons - unpaired) % 2 != 0) | (unpaired < 0) | (electrons < unpaired)

    def describe(row: int) -> str:
        return (
            f"{part.name(row)} has {electrons[row]} electrons at charge {data.charge[row]}, which cannot have spin "
            f"multiplicity {data.spin_multiplicity[row]}"
        )

    return Rows(bad, describe)


@row_rule(
    "structures",
    unit="Å",
    remedy="Hold the atoms of the file fixed while hydrogens are placed, as pipeline/molecules/sdf.py does.",
)
def heavy_atoms_moved(part: Part, bounds: Bounds) -> Rows:
    """How far a heavy atom came from its place in the file where hydrogens were placed in given coordinates."""
    moved: NDArray[np.float32] | None = part.data.heavy_atoms_moved
    if moved is None:
        raise NotRun("nobody recorded where the heavy atoms were in the input (regenerate does, unless it embeds anew)")
    given = np.flatnonzero(~np.isnan(moved))
    return Rows(
        moved[given], lambda row: f"{part.name(int(given[row]))} has a heavy atom {moved[given[row]]:.3g} Å away", given
    )
