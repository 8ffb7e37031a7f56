"""HTML report: one file that loads nothing and runs only its own script, whatever names the data contain.

Jinja escapes all text; the content security policy allows the page's one style and one script by their hashes.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.engine.registry import RULES
from hydrogate.checks.findings import Finding, Report, Severity, Verdict
from hydrogate.checks.gates.milestones import Band, Decision
from hydrogate.checks.metrics.bootstrap import Metric
from hydrogate.checks.metrics.comparison import Comparison, molecules_of
from hydrogate.checks.metrics.definitions import ANGULAR_BINS
from hydrogate.checks.render.html import charts, molecules

if TYPE_CHECKING:
    from jinja2 import Environment

SHEET = 24
WORST = 6
_HEADLINE = {
    "force_rmse": "force RMSE",
    "force_rmse_relative": "force RMSE / RMS force",
    "hydrogen_force_error": "the same, on hydrogen",
    "angular_error_mean_deg": "mean angular error",
    "energy_mae_per_atom": "energy MAE",
}


@dataclass(frozen=True)
class Content:
    """Content of the report; empty parts are left out.

    Parameters
    ----------
    decision : Decision
    bands : sequence of Band
    reports : sequence of Report
    metrics : mapping of str to Metric
        Metrics of the held-out split.
    curves : mapping of str to sequence of float
        Values of each epoch, by the names that training uses.
    data : Dataset, optional
        Structures for the contact sheet.
    held_out, predicted : Dataset, optional
        Labels and predictions of the same structures.
    absent : sequence of str
        Sentences on the parts that could not be shown, with the reason.
    """

    decision: Decision
    bands: Sequence[Band] = ()
    reports: Sequence[Report] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    data: Dataset | None = None
    held_out: Dataset | None = None
    predicted: Dataset | None = None
    absent: Sequence[str] = ()


def html_page(content: Content) -> str:
    """Return the report as one HTML document (needs Jinja)."""
    from markupsafe import Markup

    environment = _environment()
    style, script = (_asset(name) for name in ("report.css", "report.js"))
    comparison = None
    if content.held_out is not None and content.predicted is not None:
        comparison = Comparison.of(content.held_out, content.predicted)
    decision = content.decision
    parts: dict[str, Any] = {
        "decision": decision,
        "bands": content.bands,
        "band_line": Markup(charts.band_line(content.bands, content.metrics.get("force_rmse"))),
        "gates": [(item, Markup(charts.bullet(item.gate, item.metric))) for item in decision.gates],
        "headline": [(name, content.metrics[key]) for key, name in _HEADLINE.items() if key in content.metrics],
        "reports": content.reports,
        "fires": _fires(content.reports),
        "parity": [(name, Markup(chart)) for name, chart in _parity(comparison)] if comparison else [],
        "errors": [(name, note, Markup(chart)) for name, note, chart in _errors(content.metrics, comparison)],
        "further": [(name, metric) for name, metric in content.metrics.items() if not _charted(name)],
        "training": [(name, Markup(chart)) for name, chart in _training(content.curves)],
        "sheet": list(_sheet(content.data)) if content.data is not None else [],
        "worst": list(_worst(content.held_out, comparison)) if content.held_out is not None and comparison else [],
        "absent": content.absent,
        "version": version("hydrogate"),
    }
    anchors = {"errors": "errors", "training": "training", "structures": "sheet", "worst": "worst"}
    shown = {"milestones": "Milestones", "gates": "Gates", "contracts": "Contracts"}
    shown |= {anchor: anchor.capitalize() for anchor, part in anchors.items() if parts[part]}
    shown |= {"worst": "Worst predictions"} if parts["worst"] else {}
    return environment.get_template("report.html.j2").render(
        **parts,
        sections=shown.items(),
        training_note="Measured on the valid split, which is never the split that the gates use.",
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
    )


def _environment() -> "Environment":
    from jinja2 import DictLoader, Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=DictLoader({"report.html.j2": _asset("report.html.j2")}), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "figure": charts.figure,
        "unit": _unit,
        "signs": lambda text: text.replace("<=", "≤").replace(">=", "≥"),
        "breakable": lambda name: Markup("_<wbr>").join(name.split("_")),
        "rule": _rule,
        "verdict": lambda finding: "warning" if _warned(finding) else str(finding.verdict).replace("_", " "),
        "verdict_class": lambda finding: "warning" if _warned(finding) else str(finding.verdict),
    }
    return environment


def _asset(name: str) -> str:
    return files("hydrogate.checks.render.html").joinpath("templates", name).read_text("utf-8")


def _policy(style: str, script: str) -> str:
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _unit(metric: Metric) -> str:
    """Return the unit as written after the value; the degree sign follows without a space."""
    return "" if metric.value is None else {"degree": "°"}.get(metric.unit, f" {metric.unit}".rstrip())


def _charted(name: str) -> bool:
    """Return True if the metric is shown at the top or in a chart of its family."""
    return name in _HEADLINE or name.startswith(("force_rmse_", "angular_error_mean_deg_at_"))


def _fires(reports: Sequence[Report]) -> list[tuple[Report, Finding]]:
    """Return the findings that do not pass: failures first, then warnings, then checks that did not run."""
    found = [(report, f) for report in reports for f in report.findings if f.verdict is not Verdict.PASS]
    return sorted(found, key=lambda item: (item[1].verdict is Verdict.NOT_RUN, not item[1].refuses()))


def _rule(finding: Finding) -> str:
    rule = RULES.get((finding.contract, finding.check))
    return " ".join(rule.why.split()).replace("``", "") if rule else ""


def _warned(finding: Finding) -> bool:
    return finding.verdict is Verdict.FAIL and finding.severity is Severity.WARN


def _parity(comparison: Comparison) -> Iterator[tuple[str, str]]:
    forces, predicted = comparison.forces.ravel(), comparison.forces_predicted.ravel()
    yield "Force components", charts.density(forces, predicted, "force components", "eV/Å")
    # The composition determines a total energy to within a few per cent and would hide every error.
    elements = np.unique(comparison.numbers)
    place = comparison.structure_of_atom * len(elements) + np.searchsorted(elements, comparison.numbers)
    counts = np.bincount(place, minlength=len(comparison.energy) * len(elements)).reshape(-1, len(elements))
    if np.isfinite(comparison.energy).all() and len(counts):
        composition = counts @ np.linalg.lstsq(counts.astype(float), comparison.energy, rcond=None)[0]
        sizes = np.diff(comparison.offset)
        energy, predicted = ((e - composition) / sizes for e in (comparison.energy, comparison.energy_predicted))
        chart = charts.density(energy, predicted, "energy per atom", "eV/atom")
        yield "Energy per atom, fitted element energies subtracted", chart


def _errors(metrics: Mapping[str, Metric], comparison: Comparison | None) -> Iterator[tuple[str, str, str]]:
    def of(symbol: str) -> str:
        if comparison is None or symbol not in chemical_symbols:
            return ""
        chosen = comparison.numbers == chemical_symbols.index(symbol)
        return f"{int(chosen.sum())} atoms" if chosen.any() else ""

    everything = [charts.Bar("all", metrics["force_rmse"], "", "all")] if "force_rmse" in metrics else []
    families: dict[str, list[charts.Bar]] = {"element": [], "bonded": []}
    for name, metric in metrics.items():
        label = name.removeprefix("force_rmse_")
        if label in chemical_symbols:
            families["element"].append(charts.Bar(label, metric, of(label), "hydrogen" if label == "H" else ""))
        elif label.startswith("H_on_"):
            families["bonded"].append(charts.Bar(f"H on {label[5:]}", metric, "", "hydrogen"))
        elif label == "H_bonding":
            families["bonded"].append(charts.Bar("H-bonded H", metric, "", "hydrogen"))
    if families["element"]:
        chart = charts.bars([*everything, *families["element"]], "force RMSE", "eV/Å")
        yield "By element", "hydrogen in orange", chart
    if families["bonded"]:
        chart = charts.bars([*everything, *families["bonded"]], "force RMSE", "eV/Å")
        yield "By bond type", "hydrogen by the element it is bonded to", chart
    bins = [m for name, m in metrics.items() if name.startswith("angular_error_mean_deg_at_")]
    if len(bins) == len(ANGULAR_BINS):
        labels = [f"{low:g} to {high:g}" if np.isfinite(high) else f"from {low:g}" for low, high in ANGULAR_BINS]
        rows = [charts.Bar(label, metric) for label, metric in zip(labels, bins, strict=True)]
        note = "small forces have large angular errors: an error of 0.25 eV/Å turns a force of 0.2 eV/Å by 50°"
        yield "Angular error by the teacher's |F| (eV/Å)", note, charts.bars(rows, "mean angular error", "°")


def _training(curves: Mapping[str, Sequence[float]]) -> Iterator[tuple[str, str]]:
    losses = {name: curves[f"{name}_loss"] for name in ("train", "valid") if f"{name}_loss" in curves}
    if losses:
        yield "Loss", charts.curves(losses, "loss")
    for name, title in (("force_rmse", "force RMSE (eV/Å)"), ("angular_error_mean_deg", "mean angular error (°)")):
        if name in curves:
            yield title[0].upper() + title[1:], charts.curves({"valid": curves[name]}, title)


def _sheet(data: Dataset) -> Iterator[dict[str, Any]]:
    from markupsafe import Markup

    for index in molecules.sample(data, SHEET):
        numbers = data.numbers[data.atoms_of(index)]
        yield {
            "drawing": Markup(molecules.flat(data, index)),
            "formula": data.formula(index),
            "hydrogens": int((numbers == 1).sum()),
            "share": f"{100 * np.mean(numbers == 1):.0f}",
            "origin": _origin(data, index),
            "smiles": str(data.smiles[index]),
        }


def _worst(data: Dataset, comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Yield the worst structure of each of the worst molecules; predictions that are not finite come first."""
    squares = np.nan_to_num((comparison.error**2).sum(axis=1), nan=np.inf)
    sums = np.bincount(comparison.structure_of_atom, squares, minlength=len(data))
    rmse = np.sqrt(sums / (3 * np.maximum(data.sizes, 1)))
    molecule = molecules_of(data)
    shown: set[int] = set()
    for index in np.argsort(-rmse).tolist():
        if len(shown) == WORST or molecule[index] in shown or not data.sizes[index]:
            continue
        shown.add(molecule[index])
        own = data.atoms_of(index)
        atom = int(squares[own].argmax())
        symbol = chemical_symbols[int(data.numbers[own][atom])]
        formula, origin = data.formula(index), _origin(data, index)
        yield {
            "formula": formula,
            "origin": origin,
            "label": f"{formula} in three dimensions with teacher and student forces; rotate it with the arrow keys",
            "view": json.dumps(molecules.view(data, index, comparison.forces_predicted[own])),
            "rmse": float(rmse[index]),
            "atom": f"{symbol} {atom}",
            "off": float(np.sqrt(squares[own][atom])),
            "force": float(comparison.force_lengths[own][atom]),
        }


def _origin(data: Dataset, index: int) -> str:
    return f"{data.source[index]} record {data.source_index[index]}" if data.source[index] else f"structure {index}"
