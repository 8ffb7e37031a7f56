"""Validation plots as PNG files: parity, error by element, angles.

Errors are relative to the teacher. Each plot shows its units, its sample sizes and what it leaves out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols

from hydrogate.checks.metrics.bootstrap import Floats, Metric
from hydrogate.checks.metrics.comparison import Comparison
from hydrogate.checks.metrics.definitions import ANGULAR_BINS, metric_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#777777"  # Source: Wong, Nature Methods 8, 441 (2011), colour-blind safe


def write_plots(comparison: Comparison, metrics: Mapping[str, Metric], folder: Path) -> list[Path]:
    """Write all plots into ``folder`` and return their paths.

    Parameters
    ----------
    comparison : Comparison
        At least one atom.
    metrics : mapping of str to Metric
        Result of ``checks.metrics.measure`` for ``comparison``.
    folder : Path
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "parity_forces": parity_forces(comparison, metrics),
        "parity_energy": parity_energy(comparison, metrics),
        "error_by_element": error_by_element(comparison, metrics),
        "angles": angles(comparison, metrics),
    }
    paths = []
    for name, figure in pictures.items():
        path = folder / f"{name}.png"
        # Without Matplotlib's version in the metadata, equal plots are equal files.
        figure.savefig(path, dpi=120, metadata={"Software": None})
        paths.append(path)
    return paths


def _figure(title: str, panels: int = 1, width: float = 6.0) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * panels, 5.0), layout="constrained")
    figure.suptitle(f"{title}\nheld-out molecules (n), error relative to the teacher, 95 % interval", fontsize=10)
    axes = [figure.add_subplot(1, panels, panel + 1) for panel in range(panels)]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _empty(axis: "Axes", text: str) -> None:
    axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes, color=_GREY)


def _diagonal(axis: "Axes", low: float, high: float) -> None:
    axis.plot([low, high], [low, high], color=_GREY, linewidth=1, linestyle="--")
    axis.set_xlim(low, high)
    axis.set_ylim(low, high)
    axis.set_aspect("equal")


def parity_forces(comparison: Comparison, metrics: Mapping[str, Metric]) -> "Figure":
    """Plot the force components of teacher and student as a density on a logarithmic scale."""
    figure, (axis,) = _figure(f"Forces: RMSE {metrics['force_rmse']}")
    teacher, student = comparison.forces.ravel(), comparison.forces_predicted.ravel()
    finite = np.isfinite(student)
    if not finite.any():
        _empty(axis, "no prediction is finite")
        return figure
    reach = 1.2 * max(float(np.abs(teacher).max()), 1e-3)
    shown = finite & (np.abs(student) <= reach)
    drawn = axis.hexbin(
        teacher[shown], student[shown], gridsize=120, bins="log", cmap="viridis", mincnt=1,
        extent=(-reach, reach, -reach, reach),
    )  # fmt: skip
    _diagonal(axis, -reach, reach)
    axis.set_xlabel("teacher force component (eV/Å)")
    axis.set_ylabel("student force component (eV/Å)")
    figure.colorbar(drawn, ax=axis, label="components", shrink=0.85)
    outside = int((~shown).sum())
    if outside:
        axis.set_title(f"{outside} of {len(student)} components lie outside the plot", fontsize=9, color=_ORANGE)
    return figure


def parity_energy(comparison: Comparison, metrics: Mapping[str, Metric]) -> "Figure":
    """Plot the energy per atom without its composition part, and the distribution of the error.

    The composition determines a total energy to within a few per cent and would hide every error. A least-squares fit
    of the teacher's energies to the element counts is therefore subtracted from both.
    """
    figure, (left, right) = _figure(f"Energy per atom: mean absolute error {metrics['energy_mae_per_atom']}", panels=2)
    counts = _element_counts(comparison)
    composition = counts @ np.linalg.lstsq(counts, comparison.energy, rcond=None)[0]
    sizes = np.diff(comparison.offset)
    teacher = (comparison.energy - composition) / sizes
    student = (comparison.energy_predicted - composition) / sizes
    finite = np.isfinite(student)
    if not finite.any():
        _empty(left, "no prediction is finite")
        _empty(right, "no prediction is finite")
        return figure
    both = np.concatenate([teacher[finite], student[finite]])
    margin = 0.05 * max(float(np.ptp(both)), 1e-3)
    left.scatter(teacher[finite], student[finite], s=8, color=_BLUE, alpha=0.4, linewidths=0)
    _diagonal(left, float(both.min()) - margin, float(both.max()) + margin)
    left.set_xlabel("teacher energy minus element energies (eV/atom)")
    left.set_ylabel("student energy minus element energies (eV/atom)")
    error = 1000.0 * (student - teacher)[finite]
    right.hist(error, bins=40, color=_BLUE)
    right.axvline(0.0, color=_GREY, linewidth=1, linestyle="--")
    right.set_xlabel("student minus teacher (meV/atom)")
    right.set_ylabel("structures")
    return figure


def _element_counts(comparison: Comparison) -> Floats:
    elements = np.unique(comparison.numbers)
    structures = len(comparison.offset) - 1
    flat = comparison.structure_of_atom * len(elements) + np.searchsorted(elements, comparison.numbers)
    return np.bincount(flat, minlength=structures * len(elements)).reshape(structures, -1).astype(np.float64)


def error_by_element(comparison: Comparison, metrics: Mapping[str, Metric]) -> "Figure":
    """Plot the force RMSE per element, and of H per bonded element, with intervals, atom counts and relative error."""
    figure, (axis,) = _figure("Force RMSE by element", width=9.0)
    rows: list[tuple[str, Metric, int, float]] = []
    for name in metric_names():
        label = name.removeprefix("force_rmse_")
        metric = metrics.get(name)
        if label in chemical_symbols:
            chosen = comparison.numbers == chemical_symbols.index(label)
        elif label.startswith("H_on_"):
            bonded_to = chemical_symbols.index(label.removeprefix("H_on_"))
            chosen = (comparison.numbers == 1) & (comparison.partner == bonded_to)
            label = f"H on {label.removeprefix('H_on_')}"
        else:
            continue
        if metric is not None and metric.value is not None:
            scale = float(np.sqrt(np.mean(comparison.forces[chosen] ** 2)))
            rows.append((label, metric, int(chosen.sum()), scale))
    if not rows:
        _empty(axis, "no error can be computed")
        return figure
    for place, (label, metric, _, _) in enumerate(rows):
        value = metric.value or 0.0
        low, high = (metric.low or value), (metric.high or value)
        axis.bar(place, value, color=_ORANGE if label == "H" or label.startswith("H on") else _BLUE, width=0.7)
        axis.errorbar(place, value, [[max(value - low, 0.0)], [max(high - value, 0.0)]], color="black", capsize=3)
    overall = metrics["force_rmse"].value
    if overall is not None:
        axis.axhline(overall, color=_GREY, linewidth=1, linestyle="--")
        axis.text(len(rows) - 0.5, overall, "all", va="bottom", color=_GREY)
    relative = [f"{100 * (metric.value or 0.0) / scale:.1f} %" if scale else "–" for _, metric, _, scale in rows]
    labels = [f"{label}\n{n}\n{share}" for (label, _, n, _), share in zip(rows, relative, strict=True)]
    axis.set_xticks(range(len(rows)), labels)
    axis.set_xlabel("element, number of atoms, error relative to the RMS teacher force")
    axis.set_ylabel("force RMSE (eV/Å)")
    return figure


def angles(comparison: Comparison, metrics: Mapping[str, Metric]) -> "Figure":
    """Plot the angles between student and teacher force above the floor, and their mean by teacher force."""
    left_out = metrics["angular_atoms_below_floor"].value or 0.0
    figure, (left, right) = _figure(
        f"Angle between student and teacher force: mean {metrics['angular_error_mean_deg']}", panels=2
    )
    chosen = comparison.angles[comparison.above_floor]
    chosen = chosen[np.isfinite(chosen)]
    if len(chosen):
        left.hist(chosen, bins=np.geomspace(0.1, 180.0, 60).tolist(), color=_BLUE)
        left.set_xscale("log")
        left.set_xlim(0.1, 180.0)
        left.set_xticks([0.1, 1, 5, 10, 90], ["0.1", "1", "5", "10", "90"])
        for name, height in (("median", 0.97), ("mean", 0.89), ("p99", 0.97)):
            value = metrics[f"angular_error_{name}_deg"].value
            if value is not None:
                left.axvline(value, color=_ORANGE, linewidth=1)
                left.text(value, height, f" {name} {value:.1f}°", transform=left.get_xaxis_transform(), color=_ORANGE)
    else:
        _empty(left, "no atom has a force above the floor")
    below = int((chosen < 0.1).sum())
    note = f"; {below} below 0.1° are not shown" if below else ""
    left.set_title(
        f"atoms with |F| ≥ {comparison.angular_floor:g} eV/Å; {100 * left_out:.1f} % are left out{note}", fontsize=9
    )
    left.set_xlabel("angle (degree)")
    left.set_ylabel("atoms")
    _mean_angle_by_force(right, metrics)
    return figure


def _mean_angle_by_force(axis: "Axes", metrics: Mapping[str, Metric]) -> None:
    names = [name for name in metric_names() if name.startswith("angular_error_mean_deg_at_")]
    labels = [f"{low:g} to {high:g}" if np.isfinite(high) else f"above {low:g}" for low, high in ANGULAR_BINS]
    for place, name in enumerate(names):
        metric = metrics[name]
        if metric.value is None:
            continue
        low, high = metric.low or metric.value, metric.high or metric.value
        error = [[max(metric.value - low, 0.0)], [max(high - metric.value, 0.0)]]
        axis.errorbar(place, metric.value, error, fmt="o", color=_BLUE, capsize=3)
        axis.text(place + 0.12, metric.value, f"{metric.value:.1f}°", va="bottom")
    axis.set_xticks(range(len(names)), labels)
    axis.set_ylim(bottom=0.0)
    axis.set_xlim(-0.5, len(names))
    axis.set_title("mean by teacher force, all atoms: small forces have large angles", fontsize=9)
    axis.set_xlabel("teacher |F| (eV/Å)")
    axis.set_ylabel("mean angle (degree)")
