"""Contract ``structures``: what a data set of molecules must satisfy before anything is labelled."""

import numpy as np
from ase.data import atomic_numbers

from hydrogate.checks.bounds import Bounds
from hydrogate.checks.chemistry import expected_hydrogens_of_smiles, perceives
from hydrogate.checks.dataset import UNKNOWN_HYDROGENS, Dataset
from hydrogate.checks.observables import per_structure
from hydrogate.checks.rules import NotRun, Quantities, Rows, Subject, rule


@rule("structures", "labels", "predictions", unit="values", remedy="Drop or recompute the structure.")
def finite(subject: Subject, bounds: Bounds) -> Rows:
    """No NaN or infinity, every atomic number an element's, every structure with atoms."""
    data = subject.data
    bad = per_structure((~np.isfinite(data.positions)).sum(axis=1), data)
    bad += per_structure((data.numbers == 0) | (data.numbers > 118), data)
    if data.forces is not None:
        bad += per_structure((~np.isfinite(data.forces)).sum(axis=1), data)
    if data.energy is not None:
        bad += ~np.isfinite(data.energy)
    bad += data.sizes < 1
    if data.cell is not None:
        bad += ~np.isfinite(data.cell).all(axis=(1, 2))
    return Rows(
        bad, lambda row: f"{data.name(row)} has {int(bad[row])} values that are not finite or no element, or no atoms"
    )


@rule("structures", remedy="Read the reasons in the quarantine of the data set; mend the input files or the reader.")
def quarantine_share(subject: Subject, bounds: Bounds) -> Quantities:
    """Records set aside over records read."""
    data = subject.data
    if not data.n_read:
        raise NotRun("nobody counted the records read (only the pipeline's data sets carry that count)")
    # A label stage reads structures, a regenerate stage records, each of which may have become several structures.
    kept = len(set(zip(data.source, data.source_index, strict=True))) if data.energy is None else len(data)
    if lost := data.n_read - len(data.quarantine) - kept:
        raise ValueError(f"{data.n_read} records read, but {lost} of them are neither in the data set nor quarantined")
    return Quantities({"": len(data.quarantine) / data.n_read}, data.n_read, "records")


@rule("structures", unit="H atoms", remedy="Read SDF files through pipeline/sdf.py.")
def explicit_hydrogens(subject: Subject, bounds: Bounds) -> Rows:
    """Explicit hydrogens equal the expected ones, structure by structure, exactly."""
    data = subject.data
    explicit = per_structure(data.numbers == 1, data).astype(np.int64)
    expected = data.expected_hydrogens.astype(np.int64)
    for row in np.flatnonzero((expected == UNKNOWN_HYDROGENS) & (data.smiles != "")).tolist():
        expected[row] = expected_hydrogens_of_smiles(data.smiles[row])
    difference = np.abs(explicit - expected).astype(np.float64)
    unknown = np.flatnonzero((expected == UNKNOWN_HYDROGENS) & ~data.periodic)
    if len(data) and not len(unknown) and (expected == UNKNOWN_HYDROGENS).all():
        raise NotRun("periodic structures without a bond block or SMILES do not tell how much hydrogen is expected")
    difference[expected == UNKNOWN_HYDROGENS] = 0.0
    perceived = {row: perceives(data.to_atoms(row)) for row in unknown.tolist()}
    electrons = per_structure(data.numbers, data).astype(np.int64) - data.charge
    odd = (electrons - (data.spin_multiplicity - 1)) % 2 != 0
    failures = [row for row, sound in perceived.items() if not sound]
    carbons = per_structure(data.numbers == 6, data)
    bare = (explicit == 0) & (carbons >= bounds.settings["min_carbons_of_bare"])
    wide = len(failures) > bounds.settings["max_perception_failures"] * max(len(unknown), 1)
    wide = wide and len(unknown) >= bounds.settings["min_perceptions"]
    for row, sound in perceived.items():
        suspect = not sound and (wide or odd[row] or bare[row])
        difference[row] = float("nan") if suspect else 0.0

    def describe(row: int) -> str:
        if row in perceived:
            return (
                f"{data.name(row)} has {explicit[row]} explicit H and no valid bonds can be perceived "
                f"({len(failures)} of {len(unknown)} structures without a bond block or SMILES)"
            )
        return f"{data.name(row)} has {explicit[row]} explicit H, its valences imply {expected[row]}"

    return Rows(difference, describe)


@rule(
    "structures", remedy="A population of molecules holds about 50 % hydrogen: look for implicit hydrogen in the input."
)
def hydrogen_fraction(subject: Subject, bounds: Bounds) -> Quantities:
    """Hydrogen atoms over atoms, over the data set."""
    numbers = subject.data.numbers
    value = float((numbers == 1).mean()) if len(numbers) else float("nan")
    return Quantities({"": value}, len(subject.data), undecided=_too_few(subject, bounds), only_warns=True)


def _too_few(subject: Subject, bounds: Bounds) -> str:
    """Why the data set is too small a sample of molecules to speak of a population; empty where it is not."""
    data, wanted = subject.data, bounds.settings
    if len(data) < wanted["min_structures"]:
        return f"{len(data)} structures, at least {wanted['min_structures']} needed"
    formulas = len({np.sort(data.numbers[data.atoms_of(row)]).tobytes() for row in range(len(data))})
    few = formulas < wanted["min_formulas"]
    return f"{formulas} distinct formulas, at least {wanted['min_formulas']} needed" if few else ""


@rule("structures", remedy="Compare the input files and the element filter with what was meant to be trained on.")
def element_fraction(subject: Subject, bounds: Bounds) -> Quantities:
    """Share of each element within its band; ``other`` bounds each further element, hydrogen excluded."""
    numbers = subject.data.numbers
    counts = np.bincount(numbers, minlength=119) / max(len(numbers), 1)
    named = {symbol: float(counts[atomic_numbers[symbol]]) for symbol in bounds.limits if symbol != "other"}
    counts[[1, *(atomic_numbers[symbol] for symbol in named)]] = 0.0
    values = {**named, "other": float(counts.max())}
    return Quantities(values, len(subject.data), undecided=_too_few(subject, bounds), only_warns=True)


@rule("structures", unit="Å", remedy="Sample further geometries (regenerate.sampling: rattle or md).")
def xh_spread(subject: Subject, bounds: Bounds) -> Quantities:
    """Standard deviation of the C-H length over the data set."""
    shape = subject.geometry
    lengths = shape.length[subject.data.numbers[shape.partner] == 6]
    lengths = lengths[np.isfinite(lengths)]
    few = len(lengths) < bounds.settings["min_bonds"]
    undecided = f"{len(lengths)} C-H bonds, at least {bounds.settings['min_bonds']} needed" if few else ""
    return Quantities(
        {"": float(lengths.std()) if len(lengths) else float("nan")}, len(lengths), "C-H bonds", undecided
    )


@rule(
    "structures",
    "labels",
    unit="Å",
    remedy="Look at the structure: units other than Å, H at the origin, or overlapping atoms.",
)
def min_distance(subject: Subject, bounds: Bounds) -> Rows:
    """No two atoms of a structure closer than the bound."""
    data, values = subject.data, subject.geometry.min_distance
    # An atom alone in its cell still has its images.
    several = np.flatnonzero((data.sizes > 1) | data.periodic)

    def describe(row: int) -> str:
        images = " (an image of a cell counts)" if data.periodic[several[row]] else ""
        return f"{data.name(int(several[row]))} has two atoms {values[several[row]]:.3f} Å apart{images}"

    return Rows(values[several], describe, several)


@rule("structures", "labels", remedy="Place hydrogens with AddHs(addCoords=True), as pipeline/sdf.py does.")
def hydrogen_bond_lengths(subject: Subject, bounds: Bounds) -> Rows:
    """Distance of each hydrogen to its nearest heavy atom over the sum of covalent radii; no H alone."""
    data, shape = subject.data, subject.geometry
    refuse_absent_hydrogen(data, bounds)
    structure = data.structure_of_atom[shape.hydrogen]
    judged = np.flatnonzero((data.sizes[structure] > 1) | (not bounds.settings["may_be_alone"]))

    def describe(row: int) -> str:
        bond = judged[row]
        atom = int(shape.hydrogen[bond] - data.offset[structure[bond]])
        return (
            f"{data.name(int(structure[bond]))} has H atom {atom} at {shape.length[bond]:.3f} Å from its nearest heavy "
            f"atom, {shape.relative_length[bond]:.2f} of the sum of covalent radii"
        )

    return Rows(shape.relative_length[judged], describe, structure[judged], "hydrogens")


def refuse_absent_hydrogen(data: Dataset, bounds: Bounds) -> None:
    """Raise NotRun where nothing holds hydrogen and the bounds say that this may be so."""
    if bounds.settings["may_be_absent"] and not (data.numbers == 1).any():
        raise NotRun("no structure holds hydrogen, which this profile allows")


@rule(
    "structures",
    unit="atoms",
    remedy="Look at the structure: atoms that were lost, or a structure that is no single molecule.",
)
def size(subject: Subject, bounds: Bounds) -> Rows:
    """Atoms of each structure."""
    data = subject.data
    return Rows(data.sizes, lambda row: f"{data.name(row)} has {data.sizes[row]} atoms")


@rule("structures", remedy="Correct the charge or the spin multiplicity, or look for an atom that is missing.")
def charge_parity(subject: Subject, bounds: Bounds) -> Rows:
    """Electrons, charge and spin multiplicity agree: as many electrons as unpaired ones at least, and as even."""
    data = subject.data
    electrons = per_structure(data.numbers, data).astype(np.int64) - data.charge
    unpaired = data.spin_multiplicity.astype(np.int64) - 1
    bad = ((electrons - unpaired) % 2 != 0) | (unpaired < 0) | (electrons < unpaired)

    def describe(row: int) -> str:
        return (
            f"{data.name(row)} has {electrons[row]} electrons at charge {data.charge[row]}, which cannot have spin "
            f"multiplicity {data.spin_multiplicity[row]}"
        )

    return Rows(bad, describe)


@rule(
    "structures",
    unit="Å",
    remedy="Hold the atoms of the file fixed while hydrogens are placed, as pipeline/sdf.py does.",
)
def heavy_atoms_moved(subject: Subject, bounds: Bounds) -> Rows:
    """How far a heavy atom came from its place in the file where hydrogens were placed in given coordinates."""
    data = subject.data
    moved = data.heavy_atoms_moved
    if moved is None:
        raise NotRun("nobody recorded where the heavy atoms were in the input (regenerate does, unless it embeds anew)")
    given = np.flatnonzero(~np.isnan(moved))
    return Rows(
        moved[given], lambda row: f"{data.name(int(given[row]))} has a heavy atom {moved[given[row]]:.3g} Å away", given
    )
