"""Contract ``labels``: requirements on energies and forces before a student is trained on them."""

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

_UNITS = "Check that the unit is eV/Å and that forces, not gradients, are stored."


class Labelled(NamedTuple):
    """Labels of a part: its data set, the energies (M,), eV, and the forces (N, 3), eV/Å."""

    data: Dataset
    energy: NDArray[np.float64]
    forces: NDArray[np.float32]


def labels_of(part: Part) -> Labelled:
    """Return the part's data set and its labels.

    Raises
    ------
    NotRun
        The data set has no energies or no forces.
    """
    data = part.data
    if data.energy is None or data.forces is None:
        raise NotRun("the data set has no " + ("energy" if data.forces is not None else "forces"))
    return Labelled(data, data.energy, data.forces)


@rule("labels", remedy="Relabel; the quarantine of the data set lists the teacher's reasons.")
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
    """Return histograms of |F| of heavy atoms (False) and of hydrogens (True), eV/Å."""
    hydrogen = labels_of(part).data.numbers == 1
    return Histogram.of_kinds(part.force_norms, hydrogen)


@rule("labels", unit="eV/Å", remedy=_UNITS)
def force_magnitude(subject: Subject, bounds: Bounds) -> Rounds:
    """|F| over all atoms: largest value, 99.9th percentile and median."""
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


@rule("labels", remedy="Inspect the structure's label: zeroed, rescaled, or from an SCF that did not converge.")
def force_rms_per_structure(subject: Subject, bounds: Bounds) -> Rounds:
    """RMS force of each structure divided by the median of the data set."""
    rms: Histogram = yield from ask(_structure_forces)
    tally: Tally = yield from ask(tallied(partial(_relative_forces, median=rms.median)))
    return tally


def _several(data: Dataset) -> NDArray[np.int64]:
    """Return the structures that can have forces: a single atom has none, except from its periodic images."""
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
            f"{relative[several[row]]:.3g} times the median"
        ),
        several,
    )


@rule("labels", remedy="The sign is wrong, or forces and atoms are in different orders: store F = −∇E.")
def restoring_forces(subject: Subject, bounds: Bounds) -> Rounds:
    """Correlation of X-H bond length (minus the mean of that X) with the force on H along the bond, pooled over X."""
    by_element: dict[int, Moments] = yield from ask(partial(_bond_moments, bounds=bounds))
    n = sum(moments.n for moments in by_element.values())
    few = n < bounds.settings["min_bonds"]
    undecided = f"{n} X-H bonds, at least {bounds.settings['min_bonds']} needed" if few else ""
    value = float("nan")
    if n > 1:
        # Lengths are centred on the mean of each element, forces on the mean of all.
        of_each = [by_element[z] for z in sorted(by_element)]
        within = np.sum([moments.products for moments in of_each], axis=0)
        deviation, least = float(np.sqrt(within[0, 0] / n)), bounds.settings["min_spread"]
        if not few and deviation < least:
            # Near equilibrium, bond lengths differ by chemical environment, which gives the wrong sign.
            undecided = f"X-H lengths have a spread of {deviation:.2g} Å, at least {least:g} Å needed"
        spread = within[0, 0] * reduce(merged, of_each).products[1, 1]
        value = float(within[0, 1] / np.sqrt(spread)) if spread > 0 else float("nan")
    return Quantities({"": value}, n, "X-H bonds", undecided, bounds.settings["too_few_only_warn"])


def _bond_moments(part: Part, bounds: Bounds) -> dict[int, Moments]:
    """Return the moments of X-H bond length (Å) and force along the bond (eV/Å), by element X."""
    data, shape = labels_of(part).data, part.geometry
    refuse_absent_hydrogen(data, bounds)
    return {z: Moments(*moments) for z, moments in bond_moments(data, shape).items()}


def _near_siblings(part: Part, bounds: Bounds) -> SiblingWork:
    labels_of(part)
    near = part.siblings.rms_displacement <= bounds.settings["max_rms_displacement"]
    if not near.any():
        raise NotRun("no molecule has two nearby geometries (regenerate.sampling: none)")
    return SiblingWork(*(column[near] for column in part.siblings))


@rule(
    "labels", remedy="Energies and forces are inconsistent: wrong unit, sign or atom order, or labels of two methods."
)
def sibling_work(subject: Subject, bounds: Bounds) -> Rounds:
    """Slope of ΔE against −½(F₁ + F₂)·Δx over pairs of nearby geometries of one molecule; needs no teacher."""
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
    remedy="The two energies have different references, or one of the two labels failed: inspect both.",
)
def sibling_residual(part: Part, bounds: Bounds) -> Rows:
    """|ΔE − work of the forces| of two nearby geometries, divided by Σ |ΔF·Δx| |Δx| over their atoms."""
    pairs = _near_siblings(part, bounds)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.abs(pairs.energy_difference - pairs.work) / pairs.third_order

    def describe(row: int) -> str:
        return (
            f"{part.name(int(pairs.second[row]))} differs from structure {part.rows[int(pairs.first[row])]} by "
            f"{pairs.energy_difference[row]:.4g} eV, but the work of their forces is {pairs.work[row]:.4g} eV"
        )

    return Rows(relative, describe, pairs.second, "pairs")


@rule(
    "labels",
    "predictions",
    unit="eV/Å",
    remedy="The forces are not those of an isolated molecule, or belong to other positions.",
)
def net_force(subject: Subject, bounds: Bounds) -> Rounds:
    """Largest |ΣF| / √(3N) over the structures; ``exact`` for teachers whose forces are known to sum to zero."""
    largest: Extremes = yield from ask(_net_forces)
    exact = str((subject.whole.teacher or {}).get("name", "")) in bounds.settings["exact_teachers"]
    value = largest.greatest if subject.whole.structures else np.nan
    return Quantities({"exact" if exact else "other": value}, subject.whole.structures)


def _net_forces(part: Part) -> Extremes:
    return Extremes.of(net_force_of(labels_of(part).data))


@row_rule(
    "labels", unit="eV", remedy="Positions and forces belong to different geometries or have different atom orders."
)
def net_torque(part: Part, bounds: Bounds) -> Rows:
    """|Σ r × F| about the centroid of each isolated structure."""
    data = labels_of(part).data
    isolated = np.flatnonzero(~data.periodic)
    if not len(isolated):
        raise NotRun("all structures are periodic")
    values = net_torque_of(data)[isolated]
    return Rows(
        values,
        lambda row: f"{part.name(int(isolated[row]))} has a net torque of {values[row]:.4g} eV",
        isolated,
        "isolated structures",
    )


@rule("labels", remedy="Label the whole data set with one teacher, version and set of settings.")
def teacher_identity(subject: Subject, bounds: Bounds) -> Quantities:
    """The data set names exactly one teacher; in the pipeline, the one declared in the parameters."""
    found, n = subject.whole.teacher, subject.whole.structures
    if found is None:
        raise NotRun("the data set does not name a teacher")
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


@rule(
    "labels",
    remedy="Forces on hydrogen differ in size from those on heavy atoms: masked, mislabelled or missing hydrogen.",
)
def hydrogen_forces(subject: Subject, bounds: Bounds) -> Rounds:
    """Median |F| on hydrogens divided by the median |F| on heavy atoms."""
    by_kind = yield from ask(force_histograms)
    heavy, hydrogen = by_kind[False], by_kind[True]
    if bounds.settings["may_be_absent"] and not hydrogen.n:
        raise NotRun(NO_HYDROGEN)
    # Not the median of all atoms: if most are hydrogen, their own zeros would set the scale.
    scale = (heavy if heavy.n else hydrogen).median
    value = hydrogen.median / scale if hydrogen.n and scale > 0 else np.nan
    return Quantities({"": value}, hydrogen.n, "hydrogens")


@rule("labels", remedy="Inspect the structures with that value: failed labels, or labels overwritten by a constant.")
def constant_labels(subject: Subject, bounds: Bounds) -> Rounds:
    """Share of structures and of atoms, each in a sample, that repeat the most frequent energy or force."""
    whole, size = subject.whole, bounds.settings["atoms"]
    random = np.random.default_rng(bounds.settings["seed"])
    structures, atoms = (
        np.arange(n) if n <= size else _ordered(random.integers(0, n, size)) for n in (whole.structures, whole.atoms)
    )
    n, energies, geometries, forces = yield from ask(partial(_label_keys, structures=structures, atoms=atoms))
    # A geometry stored twice correctly has the same energy, so it counts once.
    labels = scattered(energies ^ scattered(geometries))
    order = np.argsort(labels)
    distinct = energies[order[runs(labels[order])]]
    return Quantities({"energy": _repeated(distinct), "forces": _repeated(forces)}, n)


def _ordered(rows: Ints) -> Ints:
    """Return the distinct ``rows``, ascending; many times faster than np.unique, which hashes integers."""
    ordered = np.sort(rows)
    return ordered[runs(ordered)]


def _label_keys(part: Part, structures: Ints, atoms: Ints) -> tuple[int, Keys, Keys, Keys]:
    """Return the number of multi-atom structures, and keys of the sampled energies, geometries and force vectors."""
    data, energy, forces = labels_of(part)
    several = data.sizes > 1
    rows = part.own(structures)
    rows = rows[several[rows]]
    # The centroid projected on an arbitrary direction distinguishes geometries.
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
    """Return the share of ``keys`` that repeat the most frequent one: 0 if all are unique, NaN if there are none."""
    if not len(keys):
        return float("nan")
    ordered = np.sort(keys)
    return float((np.diff(runs(ordered), append=len(keys)).max() - 1) / len(keys))
