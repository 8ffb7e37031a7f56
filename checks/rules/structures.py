"""Contract ``structures``: requirements on a data set of molecules before labelling."""

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

NO_HYDROGEN = "no structure contains hydrogen, which this profile allows"


@row_rule("structures", "labels", "predictions", unit="values", remedy="Remove or recompute the structure.")
def finite(part: Part, bounds: Bounds) -> Rows:
    """No NaN or infinity, only valid atomic numbers, and at least one atom in each structure."""
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
        bad,
        lambda row: f"{part.name(row)} has {int(bad[row])} non-finite values or invalid atomic numbers, or no atoms",
    )


@rule("structures", remedy="Read the reasons in the quarantine of the data set; fix the input files or the reader.")
def quarantine_share(subject: Subject, bounds: Bounds) -> Rounds:
    """Quarantined records divided by records read."""
    whole = subject.whole
    if not whole.n_read:
        raise NotRun("the data set has no record count (only the pipeline writes one)")
    # The label stage reads structures; the regenerate stage reads records, each of which can give several structures.
    kept = whole.structures
    if not whole.has_energy:
        kept = len(np.unique((yield from ask(_records))))
    if lost := whole.n_read - whole.quarantined - kept:
        raise ValueError(f"{whole.n_read} records read, but {lost} of them are neither in the data set nor quarantined")
    return Quantities({"": whole.quarantined / whole.n_read}, whole.n_read, "records")


def _records(part: Part) -> Keys:
    """Return the keys of the records that the structures come from."""
    return np.unique(scattered(keys_of_text(part.data.source) ^ scattered(part.data.source_index)))


@rule(
    "structures",
    unit="H atoms",
    remedy="Add explicit hydrogens with coordinates: use stage regenerate, or RDKit's AddHs(mol, addCoords=True).",
)
def explicit_hydrogens(subject: Subject, bounds: Bounds) -> Rounds:
    """Each structure has exactly the expected number of explicit hydrogens."""
    unknown, failures, untold, few_fail, many_fail = yield from ask(partial(_hydrogens, bounds=bounds))
    if subject.whole.structures and untold == subject.whole.structures:
        raise NotRun("the hydrogens expected in periodic structures without a bond block or SMILES are unknown")
    settings = bounds.settings
    wide = failures > settings["max_perception_failures"] * max(unknown, 1) and unknown >= settings["min_perceptions"]
    tally = cast(Tally, many_fail if wide else few_fail)  # the rows of all parts are merged into tallies
    if not failures:
        return tally
    noun = f"structures (no valid bonds can be perceived in {failures} of {unknown} without a bond block or SMILES)"
    return tally.of_noun(noun)


def _hydrogens(part: Part, bounds: Bounds) -> tuple[int, int, int, Rows, Rows]:
    """Count structures that need bond perception, those where it fails, and periodic ones with unknown hydrogens.

    The two ``Rows`` are the differences from the expected counts: in the first, a failed perception alone does not fail
    a structure; in the second, it does.
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
    # A reader that derives the multiplicity from the electron count sees a molecule without one hydrogen as a radical.
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
    """Return the structures with no bond block, SMILES or cell, and a mask of those whose bonds cannot be perceived."""
    data = part.data
    untold = np.flatnonzero((data.expected_hydrogens == UNKNOWN_HYDROGENS) & (data.smiles == "") & ~data.periodic)
    return untold, np.array([not perceives(data.to_atoms(row)) for row in untold.tolist()], dtype=bool)


@row_rule("structures", remedy="Inspect the structure: a missing atom, a broken bond, or a wrong charge.")
def perceivable_bonds(part: Part, bounds: Bounds) -> Rows:
    """Bonds consistent with the charge can be perceived in structures without a bond block or SMILES."""
    untold, imperceptible = part.once(_perception)
    if len(part.data) and not len(untold):
        raise NotRun("every structure has a bond block or a SMILES, or is periodic")
    return Rows(
        imperceptible, lambda row: f"{part.name(int(untold[row]))} has no valid bonds that can be perceived", untold
    )


def element_counts(part: Part) -> dict[int, int]:
    """Return the number of atoms of each element."""
    return dict(zip(part.elements.tolist(), part.compositions.sum(axis=0).tolist(), strict=True))


def _formulas(part: Part, most: int) -> Distinct:
    """Return the distinct formulas, each as the sum of its atoms' keys, which does not depend on the atom order."""
    data = part.data
    occupied = data.sizes > 0
    keys = np.zeros(len(data), dtype=np.uint64)
    if occupied.any():
        keys[occupied] = np.add.reduceat(scattered(np.arange(256))[data.numbers], data.offset[:-1][occupied])
    return Distinct.of(keys, most)


def _too_few(subject: Subject, bounds: Bounds, formulas: Distinct) -> str:
    """Return why the data set is too small for population statistics; an empty string if it is not."""
    structures, distinct, wanted = subject.whole.structures, len(formulas.keys), bounds.settings
    if structures < wanted["min_structures"]:
        return f"{structures} structures, at least {wanted['min_structures']} needed"
    few = distinct < wanted["min_formulas"]
    return f"{distinct} distinct formulas, at least {wanted['min_formulas']} needed" if few else ""


@rule(
    "structures", remedy="A population of molecules has about 50 % hydrogen: look for implicit hydrogens in the input."
)
def hydrogen_fraction(subject: Subject, bounds: Bounds) -> Rounds:
    """Share of hydrogen among all atoms of the data set."""
    counts, formulas = yield from ask(element_counts, partial(_formulas, most=bounds.settings["min_formulas"]))
    atoms = sum(counts.values())
    value = counts.get(1, 0) / atoms if atoms else float("nan")
    few = _too_few(subject, bounds, formulas)
    return Quantities({"": value}, subject.whole.structures, undecided=few, only_warns=True)


@rule("structures", remedy="Compare the input files and the element filter with the intended training data.")
def element_fraction(subject: Subject, bounds: Bounds) -> Rounds:
    """Share of each element among all atoms; ``other`` bounds each element not listed, except hydrogen."""
    counts, formulas = yield from ask(element_counts, partial(_formulas, most=bounds.settings["min_formulas"]))
    atoms = max(sum(counts.values()), 1)
    named = {symbol: counts.get(atomic_numbers[symbol], 0) / atoms for symbol in bounds.limits if symbol != "other"}
    rest = counts.keys() - {1, *(atomic_numbers[symbol] for symbol in named)}
    values = {**named, "other": max((counts[z] / atoms for z in rest), default=0.0)}
    few = _too_few(subject, bounds, formulas)
    return Quantities(values, subject.whole.structures, undecided=few, only_warns=True)


@rule("structures", unit="Å", remedy="Sample more geometries (regenerate.sampling: rattle or md).")
def xh_spread(subject: Subject, bounds: Bounds) -> Rounds:
    """Standard deviation of the C-H bond length over the data set."""
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
    remedy="Inspect the structure: units other than Å, H at the origin, or overlapping atoms.",
)
def min_distance(part: Part, bounds: Bounds) -> Rows:
    """Smallest distance between two atoms of each structure."""
    data, values = part.data, part.geometry.min_distance
    # A single atom in a cell still has periodic images.
    several = np.flatnonzero((data.sizes > 1) | data.periodic)

    def describe(row: int) -> str:
        images = " (periodic images included)" if data.periodic[several[row]] else ""
        return f"{part.name(int(several[row]))} has two atoms {values[several[row]]:.3f} Å apart{images}"

    return Rows(values[several], describe, several)


@row_rule(
    "structures", "labels", remedy="Place hydrogens with AddHs(addCoords=True), as pipeline/molecules/sdf.py does."
)
def hydrogen_bond_lengths(part: Part, bounds: Bounds) -> Rows:
    """Distance of each hydrogen to its nearest heavy atom, over the sum of covalent radii; an isolated H fails."""
    data, shape = part.data, part.geometry
    refuse_absent_hydrogen(data, bounds)
    hydrogens = part.compositions[:, part.elements == 1].sum(axis=1)
    structure = np.repeat(np.arange(len(data)), hydrogens)
    alone = (data.sizes == 1) & bounds.settings["may_be_alone"]
    # Avoid a copy if no structure is excluded.
    judged = ~alone[structure] if alone.any() else slice(None)

    def describe(row: int) -> str:
        bond = np.arange(len(structure))[judged][row]
        atom = int(shape.hydrogen[bond] - data.offset[structure[bond]])
        return (
            f"{part.name(int(structure[bond]))} has H atom {atom} at {shape.length[bond]:.3f} Å from its nearest heavy "
            f"atom, {shape.relative_length[bond]:.2f} times the sum of covalent radii"
        )

    return Rows(shape.relative_length[judged], describe, structure[judged], "hydrogens")


def refuse_absent_hydrogen(data: Dataset, bounds: Bounds) -> None:
    """Raise NotRun if no structure contains hydrogen and the bounds allow that."""
    if bounds.settings["may_be_absent"] and not (data.numbers == 1).any():
        raise NotRun(NO_HYDROGEN)


@row_rule(
    "structures",
    unit="atoms",
    remedy="Inspect the structure: lost atoms, or not a single molecule.",
)
def size(part: Part, bounds: Bounds) -> Rows:
    """Number of atoms of each structure."""
    data = part.data
    return Rows(data.sizes, lambda row: f"{part.name(row)} has {data.sizes[row]} atoms")


@row_rule("structures", remedy="Correct the charge or the spin multiplicity, or look for a missing atom.")
def charge_parity(part: Part, bounds: Bounds) -> Rows:
    """Electron count matches the parity of the spin multiplicity and is not below the number of unpaired electrons."""
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
    remedy="Keep the atoms of the file fixed while hydrogens are placed, as pipeline/molecules/sdf.py does.",
)
def heavy_atoms_moved(part: Part, bounds: Bounds) -> Rows:
    """Displacement of heavy atoms from their positions in the file, if hydrogens were added to given coordinates."""
    moved: NDArray[np.float32] | None = part.data.heavy_atoms_moved
    if moved is None:
        raise NotRun("the data set does not record how far heavy atoms moved (regenerate does, unless it re-embeds)")
    given = np.flatnonzero(~np.isnan(moved))
    return Rows(
        moved[given],
        lambda row: f"{part.name(int(given[row]))} has a heavy atom displaced by {moved[given[row]]:.3g} Å",
        given,
    )
