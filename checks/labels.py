"""Contract ``labels``: what energies and forces must satisfy before anything is trained on them."""

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from hydrogate.checks.bounds import Bounds
from hydrogate.checks.dataset import Dataset
from hydrogate.checks.observables import SiblingWork, bond_forces, composition_fit, force_norms, per_structure
from hydrogate.checks.observables import net_force as net_force_of
from hydrogate.checks.observables import net_torque as net_torque_of
from hydrogate.checks.rules import NotRun, Quantities, Rows, Subject, rule
from hydrogate.checks.structures import refuse_absent_hydrogen

_UNITS = "Check the unit (eV/Å is meant) and that forces, not gradients, were stored."


def _labelled(subject: Subject) -> Dataset:
    data = subject.data
    if data.energy is None or data.forces is None:
        raise NotRun("the data set carries no " + ("energy" if data.forces is not None else "forces"))
    return data


@rule("labels", remedy="Label again; read the teacher's reasons in the quarantine of the data set.")
def complete(subject: Subject, bounds: Bounds) -> Quantities:
    """Each structure has energy and forces, or a quarantine entry with the teacher's reason."""
    data = subject.data
    if data.energy is None or data.forces is None:
        return Quantities({"missing": float(len(data)), "quarantined_share": 0.0}, len(data))
    n = data.n_read or len(data)
    unlabelled = (~np.isfinite(data.energy)) | (per_structure(np.any(np.isnan(data.forces), axis=1), data) > 0)
    missing = int(unlabelled.sum()) + max(0, n - len(data) - len(data.quarantine))
    return Quantities({"missing": float(missing), "quarantined_share": len(data.quarantine) / max(n, 1)}, n)


@rule("labels", unit="eV/Å", remedy=_UNITS)
def force_magnitude(subject: Subject, bounds: Bounds) -> Quantities:
    """|F| of atoms: the largest, the 99.9th percentile, the median."""
    norms = force_norms(_labelled(subject))
    if not len(norms):
        return Quantities({}, 0, "atoms")
    p99_9, median = np.quantile(norms, [0.999, 0.5])
    return Quantities({"largest": norms.max(), "p99_9": p99_9, "median": median}, len(norms), "atoms")


@rule("labels", unit="eV/Å", remedy=_UNITS)
def force_rms(subject: Subject, bounds: Bounds) -> Quantities:
    """Root mean square of the force components over the data set."""
    forces = _labelled(subject).forces
    assert forces is not None
    value = float(np.sqrt(np.mean(forces.astype(np.float64) ** 2))) if forces.size else float("nan")
    return Quantities({"": value}, len(forces), "atoms")


@rule("labels", remedy="Look at the structure's label: zeroed, rescaled, or an SCF that did not converge.")
def force_rms_per_structure(subject: Subject, bounds: Bounds) -> Rows:
    """A structure's RMS force over the median of the data set."""
    data = _labelled(subject)
    rms = np.sqrt(per_structure(force_norms(data) ** 2, data) / np.maximum(3 * data.sizes, 1))
    # On an atom alone there is no force.
    several = np.flatnonzero((data.sizes != 1) | data.periodic)
    median = np.median(rms[several]) if len(several) else np.nan
    relative = rms / median if median > 0 else np.full(len(rms), np.nan)
    return Rows(
        relative[several],
        lambda row: (
            f"{data.name(int(several[row]))} has RMS force {rms[several[row]]:.4g} eV/Å, "
            f"{relative[several[row]]:.3g} of the median"
        ),
        several,
    )


@rule("labels", remedy="The sign is wrong, or forces and atoms are in a different order: store F = −∇E.")
def restoring_forces(subject: Subject, bounds: Bounds) -> Quantities:
    """Correlation of (X-H length minus its mean for that X) with the force on H along the bond, pooled."""
    data = _labelled(subject)
    refuse_absent_hydrogen(data, bounds)
    bonds = bond_forces(data, subject.geometry)
    n = len(bonds.force)
    few = n < bounds.settings["min_bonds"]
    undecided = f"{n} X-H bonds, at least {bounds.settings['min_bonds']} needed" if few else ""
    spread = n > 1 and bonds.deviation.std() > 0 and bonds.force.std() > 0
    value = float(np.corrcoef(bonds.deviation, bonds.force)[0, 1]) if spread else float("nan")
    return Quantities({"": value}, n, "X-H bonds", undecided, bounds.settings["too_few_only_warn"])


def _near_siblings(subject: Subject, bounds: Bounds) -> SiblingWork:
    _labelled(subject)
    pairs = subject.siblings
    near = pairs.rms_displacement <= bounds.settings["max_rms_displacement"]
    if not near.any():
        raise NotRun("no molecule has two near geometries (regenerate.sampling: none)")
    return SiblingWork(*(column[near] for column in pairs))


@rule("labels", remedy="Energies and forces disagree: a unit, a sign, an order of atoms, or labels of two methods.")
def sibling_work(subject: Subject, bounds: Bounds) -> Quantities:
    """Slope of ΔE on −½(F₁ + F₂)·Δx over pairs of near geometries of one molecule; needs no teacher."""
    pairs = _near_siblings(subject, bounds)
    work, difference = pairs.work, pairs.energy_difference
    few = len(work) < bounds.settings["min_pairs"]
    undecided = f"{len(work)} pairs, at least {bounds.settings['min_pairs']} needed" if few else ""
    square = float(work @ work)
    return Quantities({"": float(work @ difference) / square if square > 0 else np.nan}, len(work), "pairs", undecided)


@rule(
    "labels",
    unit="1/Å",
    remedy="The two energies have different references, or one of the two labels failed: look at both.",
)
def sibling_residual(subject: Subject, bounds: Bounds) -> Rows:
    """How far ΔE of two near geometries is from the work of their forces, over Σ |ΔF·Δx| |Δx| of their atoms."""
    pairs = _near_siblings(subject, bounds)
    data = subject.data
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.abs(pairs.energy_difference - pairs.work) / pairs.third_order

    def describe(row: int) -> str:
        return (
            f"{data.name(int(pairs.second[row]))} differs from structure {pairs.first[row]} by "
            f"{pairs.energy_difference[row]:.4g} eV, the work of their forces is {pairs.work[row]:.4g} eV"
        )

    return Rows(relative, describe, pairs.second, "pairs")


@rule(
    "labels",
    "predictions",
    unit="eV/Å",
    remedy="The forces are not those of an isolated molecule, or of other positions.",
)
def net_force(subject: Subject, bounds: Bounds) -> Quantities:
    """|ΣF| / √(3N), the largest over the structures; ``exact`` for teachers known to sum to zero."""
    data = _labelled(subject)
    values = net_force_of(data)
    exact = str((data.teacher or {}).get("name", "")) in bounds.settings["exact_teachers"]
    return Quantities({"exact" if exact else "other": values.max() if len(values) else np.nan}, len(values))


@rule("labels", unit="eV", remedy="Positions and forces are of two geometries, or two orders of the atoms.")
def net_torque(subject: Subject, bounds: Bounds) -> Rows:
    """|Σ r × F| about the centroid of each isolated structure."""
    data = _labelled(subject)
    isolated = np.flatnonzero(~data.periodic)
    if not len(isolated):
        raise NotRun("every structure is periodic")
    values = net_torque_of(data)[isolated]
    return Rows(
        values,
        lambda row: f"{data.name(int(isolated[row]))} is turned by its own forces, torque {values[row]:.4g} eV",
        isolated,
        "isolated structures",
    )


def _composition_residual(subject: Subject, bounds: Bounds) -> np.ndarray:
    data = _labelled(subject)
    fit = subject.composition
    wanted = bounds.settings["min_structures_per_rank"] * fit.rank
    if fit.rank < 2 or len(data) < wanted:
        raise NotRun(
            f"{len(data)} structures of compositions of rank {fit.rank}; rank 2 and {wanted} structures needed"
        )
    return fit.residual


@rule(
    "labels", unit="eV/atom", remedy="Look at the outliers: a failed SCF, another level of theory, or a shuffled order."
)
def energy_residual(subject: Subject, bounds: Bounds) -> Quantities:
    """Energy per atom after a fit of element energies: largest robust z-score, standard deviation."""
    residual = _composition_residual(subject, bounds)
    scale = 1.4826 * np.median(np.abs(residual - np.median(residual)))
    z = np.abs(residual - np.median(residual)).max() / scale if scale > 0 else np.nan
    return Quantities({"robust_z": z, "standard_deviation": residual.std()}, len(residual))


@rule("labels", unit="eV/atom", remedy="Check the unit of the energies: eV is meant, not hartree or kcal/mol.")
def energy_residual_scale(subject: Subject, bounds: Bounds) -> Quantities:
    """Median absolute deviation of the residual of the composition fit; exactly 0 is undecided."""
    residual = _composition_residual(subject, bounds)
    scale = float(np.median(np.abs(residual - np.median(residual))))
    return Quantities({"": scale or float("nan")}, len(residual))


@rule("labels", remedy="Label the whole data set with one teacher, version and set of settings.")
def teacher_identity(subject: Subject, bounds: Bounds) -> Quantities:
    """The data set names one teacher; in the pipeline, the one in the parameters."""
    found = subject.data.teacher
    if found is None:
        raise NotRun("the data set names no teacher")
    if several := found.get("several"):
        named = " and ".join(
            " ".join(str(one.get(key, "")) for key in ("name", "method", "version")) for one in several
        )
        return Quantities({"": float(len(several) - 1)}, len(subject.data), f"structures labelled by {named}")
    wanted = subject.teacher or {}
    differing = [key for key in wanted if found.get(key) != wanted[key]]
    if differing:
        pairs = ", ".join(f"{key} {found.get(key)!r} instead of {wanted[key]!r}" for key in differing)
        return Quantities({"": float(len(differing))}, len(subject.data), f"structures labelled with {pairs}")
    return Quantities({"": 0.0}, len(subject.data))


@rule("labels", remedy="Hydrogen carries no force of the size of the others: masked, mislabelled or missing hydrogen.")
def hydrogen_forces(subject: Subject, bounds: Bounds) -> Quantities:
    """Median |F| on hydrogen over the median |F| on heavy atoms."""
    data = _labelled(subject)
    refuse_absent_hydrogen(data, bounds)
    norms, hydrogen = force_norms(data), data.numbers == 1
    # Not over all atoms: where most are hydrogen, their own zeros would be the scale.
    scale = np.median(norms[~hydrogen] if (~hydrogen).any() else norms) if len(norms) else 0.0
    value = np.median(norms[hydrogen]) / scale if hydrogen.any() and scale > 0 else np.nan
    return Quantities({"": value}, int(hydrogen.sum()), "hydrogens")


@rule(
    "labels", remedy="Look at the structures of that value: labels that failed, or were written over by one constant."
)
def constant_labels(subject: Subject, bounds: Bounds) -> Quantities:
    """Share of the structures, and of a sample of the atoms, that repeat the most frequent energy and force vector."""
    data = _labelled(subject)
    assert data.energy is not None
    assert data.forces is not None
    # One geometry written down twice rightly has one energy: a second place along some line tells geometries apart.
    along = per_structure(data.positions.astype(np.float64) @ np.sqrt([2.0, 3.0, 5.0]), data)
    several = data.sizes > 1
    distinct = np.unique(np.column_stack([data.energy, along])[several], axis=0)[:, 0]
    atoms = np.flatnonzero(several[data.structure_of_atom])
    wanted = bounds.settings
    if len(atoms) > wanted["atoms"]:
        atoms = np.random.default_rng(wanted["seed"]).choice(atoms, wanted["atoms"], replace=False)
    values = {"energy": _repeated(distinct), "forces": _repeated(data.forces[atoms])}
    return Quantities(values, int(several.sum()))


def _repeated(values: NDArray[np.floating]) -> float:
    """Share of the rows of ``values`` that repeat the most frequent one; 0 where each is unique, NaN of none."""
    counts = np.unique(values, axis=0, return_counts=True)[1]
    return float((counts.max() - 1) / len(values)) if len(values) else float("nan")


@rule(
    "labels",
    unit="eV",
    remedy="The isolated atoms are of another unit, method or element than the labels: compute them with one method.",
)
def isolated_atom_energies(subject: Subject, bounds: Bounds) -> Quantities:
    """What the composition fit finds each element to gain in the structures over its isolated atom; none left out."""
    data = _labelled(subject)
    isolated = data.isolated_atom_energies
    if not isolated:
        raise NotRun("the data set carries no energies of isolated atoms")
    assert data.energy is not None
    energies = {atomic_numbers[symbol]: energy for symbol, energy in isolated.items()}
    present, counts = np.unique(data.numbers, return_counts=True)
    without = [chemical_symbols[z] for z in present.tolist() if z not in energies]
    if without:
        return Quantities({"missing": float(len(without))}, len(data), f"structures (without {', '.join(without)})")
    alone = np.zeros(len(chemical_symbols))
    alone[list(energies)] = list(energies.values())
    gain = data.energy - per_structure(alone[data.numbers], data)
    values = {"missing": 0.0, "all": float(np.median(gain / np.maximum(data.sizes, 1))) if len(data) else np.nan}
    fit = composition_fit(data, gain)
    if fit.rank >= len(present):
        often = counts >= bounds.settings["min_atoms"]
        values |= {chemical_symbols[z]: fit.element_energies[z] for z in present[often].tolist()}
    return Quantities(values, len(data))
