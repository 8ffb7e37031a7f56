"""Contract ``labels``: what energies and forces must satisfy before anything is trained on them."""

from functools import partial, reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.engine.bounds import Bounds
from hydrogate.checks.engine.hashing import Keys, scattered
from hydrogate.checks.engine.mergeable import Extremes, Histogram, Moments, merged, runs
from hydrogate.checks.engine.partition import Ints, Part
from hydrogate.checks.engine.registry import NotRun, Quantities, Rounds, Subject, ask, row_rule, rule, tallied
from hydrogate.checks.engine.row_counts import Rows, Tally
from hydrogate.checks.geometry.observables import SiblingWork, bond_moments, force_squares, force_sums, per_structure
from hydrogate.checks.geometry.observables import net_force as net_force_of
from hydrogate.checks.geometry.observables import net_torque as net_torque_of
from hydrogate.checks.rules.structures import NO_HYDROGEN, refuse_absent_hydrogen

_UNITS = "Check the unit (eV/Å is meant) and that forces, not gradients, were stored."


class Labelled(NamedTuple):
    """A part's data set, its energies (M,), eV, and its forces (N, 3), eV/Å."""

    data: Dataset
    energy: NDArray[np.float64]
    forces: NDArray[np.float32]


def labels_of(part: Part) -> Labelled:
    """The part's data set and its labels.

    Raises
    ------
    NotRun
        It carries none.
    """
    data = part.data
    if data.energy is None or data.forces is None:
        raise NotRun("the data set carries no " + ("energy" if data.forces is not None else "forces"))
    return Labelled(data, data.energy, data.forces)


@rule("labels", remedy="Label again; read the teacher's reasons in the quarantine of the data set.")
def complete(subject: Subject, bounds: Bounds) -> Rounds:
    """Each structure has energy and forces, or a quarantine entry with the teacher's reason."""
    whole = subject.whole
    if not (whole.has_energy and whole.has_forces):
        return Quantities({"missing": float(whole.structures), "quarantined_share": 0.0}, whole.structures)
    n = whole.n_read or whole.structures
    unlabelled: int = yield from ask(_unlabelled)
    missing = unlabelled + max(0, n - whole.structures - whole.quarantined)
    return Quantities({"missing": float(missing), "quarantined_share": whole.quarantined / max(n, 1)}, n)


def _unlabelled(part: Part) -> int:
    data, energy, forces = labels_of(part)
    absent = ~np.isfinite(energy)
    if np.isnan(force_sums(data).total).any():
        absent |= per_structure(np.any(np.isnan(forces), axis=1), data) > 0
    return int(np.count_nonzero(absent))


def force_histograms(part: Part) -> dict[bool, Histogram]:
    """|F| of the heavy atoms (False) and of the hydrogens (True), eV/Å."""
    hydrogen = labels_of(part).data.numbers == 1
    return Histogram.of_kinds(part.force_norms, hydrogen)


@rule("labels", unit="eV/Å", remedy=_UNITS)
def force_magnitude(subject: Subject, bounds: Bounds) -> Rounds:
    """|F| of atoms: the largest, the 99.9th percentile, the median."""
    by_kind = yield from ask(force_histograms)
    norms = by_kind[False].merge(by_kind[True])
    if not norms.n:
        return Quantities({}, 0, "atoms")
    largest = np.nan if norms.undefined else norms.extremes.greatest
    return Quantities({"largest": largest, "p99_9": norms.quantile(0.999), "median": norms.median}, norms.n, "atoms")


@rule("labels", unit="eV/Å", remedy=_UNITS)
def force_rms(subject: Subject, bounds: Bounds) -> Rounds:
    """Root mean square of the force components over the data set."""
    atoms, square = yield from ask(_force_squares)
    return Quantities({"": float(np.sqrt(square / (3 * atoms))) if atoms else float("nan")}, atoms, "atoms")


def _force_squares(part: Part) -> tuple[int, float]:
    data = labels_of(part).data
    with np.errstate(over="ignore", invalid="ignore"):
        return len(data.numbers), float(force_squares(data).sum())


@rule("labels", remedy="Look at the structure's label: zeroed, rescaled, or an SCF that did not converge.")
def force_rms_per_structure(subject: Subject, bounds: Bounds) -> Rounds:
    """A structure's RMS force over the median of the data set."""
    rms: Histogram = yield from ask(_structure_forces)
    tally: Tally = yield from ask(tallied(partial(_relative_forces, median=rms.median)))
    return tally


def _several(data: Dataset) -> NDArray[np.int64]:
    """Structures in which there can be a force: an atom alone feels none, unless from its own images."""
    return np.flatnonzero((data.sizes != 1) | data.periodic)


def _structure_forces(part: Part) -> Histogram:
    several = _several(labels_of(part).data)
    return Histogram.of(part.force_rms[several])


def _relative_forces(part: Part, median: float) -> Rows:
    several, rms = _several(labels_of(part).data), part.force_rms
    relative = rms / median if median > 0 else np.full(len(rms), np.nan)
    return Rows(
        relative[several],
        lambda row: (
            f"{part.name(int(several[row]))} has RMS force {rms[several[row]]:.4g} eV/Å, "
            f"{relative[several[row]]:.3g} of the median"
        ),
        several,
    )


@rule("labels", remedy="The sign is wrong, or forces and atoms are in a different order: store F = −∇E.")
def restoring_forces(subject: Subject, bounds: Bounds) -> Rounds:
    """Correlation of (X-H length minus its mean for that X) with the force on H along the bond, pooled."""
    by_element: dict[int, Moments] = yield from ask(partial(_bond_moments, bounds=bounds))
    n = sum(moments.n for moments in by_element.values())
    few = n < bounds.settings["min_bonds"]
    undecided = f"{n} X-H bonds, at least {bounds.settings['min_bonds']} needed" if few else ""
    value = float("nan")
    if n > 1:
        # About the mean of each element for the lengths, about the mean of all for the forces.
        of_each = [by_element[z] for z in sorted(by_element)]
        within = np.sum([moments.products for moments in of_each], axis=0)
        deviation, least = float(np.sqrt(within[0, 0] / n)), bounds.settings["min_spread"]
        if not few and deviation < least:
            # Near equilibrium bonds differ in length by their chemistry, and the correlation has the wrong sign.
            undecided = f"X-H lengths spread by {deviation:.2g} Å, at least {least:g} Å needed"
        spread = within[0, 0] * reduce(merged, of_each).products[1, 1]
        value = float(within[0, 1] / np.sqrt(spread)) if spread > 0 else float("nan")
    return Quantities({"": value}, n, "X-H bonds", undecided, bounds.settings["too_few_only_warn"])


def _bond_moments(part: Part, bounds: Bounds) -> dict[int, Moments]:
    """Of the length of X-H bonds (Å) and the force along them (eV/Å), by the element X."""
    data, shape = labels_of(part).data, part.geometry
    refuse_absent_hydrogen(data, bounds)
    return {z: Moments(*moments) for z, moments in bond_moments(data, shape).items()}


def _near_siblings(part: Part, bounds: Bounds) -> SiblingWork:
    labels_of(part)
    near = part.siblings.rms_displacement <= bounds.settings["max_rms_displacement"]
    if not near.any():
        raise NotRun("no molecule has two near geometries (regenerate.sampling: none)")
    return SiblingWork(*(column[near] for column in part.siblings))


@rule("labels", remedy="Energies and forces disagree: a unit, a sign, an order of atoms, or labels of two methods.")
def sibling_work(subject: Subject, bounds: Bounds) -> Rounds:
    """Slope of ΔE on −½(F₁ + F₂)·Δx over pairs of near geometries of one molecule; needs no teacher."""
    n, product, square = yield from ask(partial(_work, bounds=bounds))
    few = n < bounds.settings["min_pairs"]
    undecided = f"{n} pairs, at least {bounds.settings['min_pairs']} needed" if few else ""
    return Quantities({"": product / square if square > 0 else np.nan}, n, "pairs", undecided)


def _work(part: Part, bounds: Bounds) -> tuple[int, float, float]:
    pairs = _near_siblings(part, bounds)
    with np.errstate(invalid="ignore", over="ignore"):
        return len(pairs.work), float((pairs.work * pairs.energy_difference).sum()), float((pairs.work**2).sum())


@row_rule(
    "labels",
    unit="1/Å",
    remedy="The two energies have different references, or one of the two labels failed: look at both.",
)
def sibling_residual(part: Part, bounds: Bounds) -> Rows:
    """How far ΔE of two near geometries is from the work of their forces, over Σ |ΔF·Δx| |Δx| of their atoms."""
    pairs = _near_siblings(part, bounds)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.abs(pairs.energy_difference - pairs.work) / pairs.third_order

    def describe(row: int) -> str:
        return (
            f"{part.name(int(pairs.second[row]))} differs from structure {part.rows[int(pairs.first[row])]} by "
            f"{pairs.energy_difference[row]:.4g} eV, the work of their forces is {pairs.work[row]:.4g} eV"
        )

    return Rows(relative, describe, pairs.second, "pairs")


@rule(
    "labels",
    "predictions",
    unit="eV/Å",
    remedy="The forces are not those of an isolated molecule, or of other positions.",
)
def net_force(subject: Subject, bounds: Bounds) -> Rounds:
    """|ΣF| / √(3N), the largest over the structures; ``exact`` for teachers known to sum to zero."""
    largest: Extremes = yield from ask(_net_forces)
    exact = str((subject.whole.teacher or {}).get("name", "")) in bounds.settings["exact_teachers"]
    value = largest.greatest if subject.whole.structures else np.nan
    return Quantities({"exact" if exact else "other": value}, subject.whole.structures)


def _net_forces(part: Part) -> Extremes:
    return Extremes.of(net_force_of(labels_of(part).data))


@row_rule("labels", unit="eV", remedy="Positions and forces are of two geometries, or two orders of the atoms.")
def net_torque(part: Part, bounds: Bounds) -> Rows:
    """|Σ r × F| about the centroid of each isolated structure."""
    data = labels_of(part).data
    isolated = np.flatnonzero(~data.periodic)
    if not len(isolated):
        raise NotRun("every structure is periodic")
    values = net_torque_of(data)[isolated]
    return Rows(
        values,
        lambda row: f"{part.name(int(isolated[row]))} is turned by its own forces, torque {values[row]:.4g} eV",
        isolated,
        "isolated structures",
    )


@rule("labels", remedy="Label the whole data set with one teacher, version and set of settings.")
def teacher_identity(subject: Subject, bounds: Bounds) -> Quantities:
    """The data set names one teacher; in the pipeline, the one in the parameters."""
    found, n = subject.whole.teacher, subject.whole.structures
    if found is None:
        raise NotRun("the data set names no teacher")
    if several := found.get("several"):
        named = " and ".join(
            " ".join(str(one.get(key, "")) for key in ("name", "method", "version")) for one in several
        )
        return Quantities({"": float(len(several) - 1)}, n, f"structures labelled by {named}")
    wanted = subject.teacher or {}
    differing = [key for key in wanted if found.get(key) != wanted[key]]
    if differing:
        pairs = ", ".join(f"{key} {found.get(key)!r} instead of {wanted[key]!r}" for key in differing)
        return Quantities({"": float(len(differing))}, n, f"structures labelled with {pairs}")
    return Quantities({"": 0.0}, n)


@rule("labels", remedy="Hydrogen carries no force of the size of the others: masked, mislabelled or missing hydrogen.")
def hydrogen_forces(subject: Subject, bounds: Bounds) -> Rounds:
    """Median |F| on hydrogen over the median |F| on heavy atoms."""
    by_kind = yield from ask(force_histograms)
    heavy, hydrogen = by_kind[False], by_kind[True]
    if bounds.settings["may_be_absent"] and not hydrogen.n:
        raise NotRun(NO_HYDROGEN)
    # Not over all atoms: where most are hydrogen, their own zeros would be the scale.
    scale = (heavy if heavy.n else hydrogen).median
    value = hydrogen.median / scale if hydrogen.n and scale > 0 else np.nan
    return Quantities({"": value}, hydrogen.n, "hydrogens")


@rule(
    "labels", remedy="Look at the structures of that value: labels that failed, or were written over by one constant."
)
def constant_labels(subject: Subject, bounds: Bounds) -> Rounds:
    """Share of the structures and of the atoms, a sample of each, that repeat the most frequent energy and force."""
    whole, size = subject.whole, bounds.settings["atoms"]
    random = np.random.default_rng(bounds.settings["seed"])
    structures, atoms = (
        np.arange(n) if n <= size else _ordered(random.integers(0, n, size)) for n in (whole.structures, whole.atoms)
    )
    n, energies, geometries, forces = yield from ask(partial(_label_keys, structures=structures, atoms=atoms))
    # One geometry written down twice rightly has one energy.
    labels = scattered(energies ^ scattered(geometries))
    order = np.argsort(labels)
    distinct = energies[order[runs(labels[order])]]
    return Quantities({"energy": _repeated(distinct), "forces": _repeated(forces)}, n)


def _ordered(rows: Ints) -> Ints:
    """Each of ``rows`` once, ascending: many times as fast as np.unique, which hashes whole numbers."""
    ordered = np.sort(rows)
    return ordered[runs(ordered)]


def _label_keys(part: Part, structures: Ints, atoms: Ints) -> tuple[int, Keys, Keys, Keys]:
    """How many structures have several atoms; of the sampled ones a key of each energy, geometry and force vector."""
    data, energy, forces = labels_of(part)
    several = data.sizes > 1
    rows = part.own(structures)
    rows = rows[several[rows]]
    # A second place along some line tells geometries apart.
    along = force_sums(data).centroid @ np.sqrt([2.0, 3.0, 5.0])
    own = part.own_atoms(atoms)
    owner = np.searchsorted(data.offset, own, side="right") - 1
    x, y, z = (forces[own[several[owner]]] + 0.0).view(np.uint32).T
    return (
        int(np.count_nonzero(several)),
        scattered((energy[rows] + 0.0).view(np.uint64)),
        scattered(along[rows].view(np.uint64)),
        scattered(x ^ scattered(y ^ scattered(z))),
    )


def _repeated(keys: Keys) -> float:
    """Share of ``keys`` that repeat the most frequent one; 0 where each is unique, NaN of none."""
    if not len(keys):
        return float("nan")
    ordered = np.sort(keys)
    return float((np.diff(runs(ordered), append=len(keys)).max() - 1) / len(keys))
