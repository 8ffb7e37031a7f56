"""Tables of docs/results.md and docs/dataset.md, from the report of the milestone study.

``python -m studies.render_pages --milestone reports/studies/milestone.json`` writes docs/results.json, the part of the
report that the tables need, and renders the pages. Without the option it renders them from docs/results.json.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hydrogate.checks.gates.gates import ONE_SIDED
from hydrogate.checks.render.dimer_tables import dimers_markdown
from studies.study import load_study, table

Metrics = Mapping[str, Any]
_MARKED = re.compile(r"(<!-- table (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
# Acceptance: heading, metrics file, metric, target, aim. The targets are those of params.yaml: the gates (the stricter
# one where two use the same metric), dynamics.limits.drift and energy_force_consistency of the contract `predictions`.
# The aims are specific to this study.
_ACCEPTANCE = (
    ("force RMSE, eV/Å", "validation", "force_rmse", "< 0.25", "< 0.10"),
    ("relative to the RMS teacher force", "validation", "force_rmse_relative", "≤ 0.15", "< 0.06"),
    ("mean angle, °", "validation", "angular_error_mean_deg", "< 10", "< 4"),
    ("O/C ratio of the force RMSE, minus 1", "validation", "oxygen_over_carbon", "≤ 0.20", ""),
    ("H force RMSE / RMS teacher force on H", "validation", "hydrogen_force_error", "≤ 0.15", ""),
    ("H fraction", "validation", "hydrogen_fraction", "0.4 to 0.6", ""),
    ("final valid loss / smallest, minus 1", "training", "convergence", "≤ 0.05", ""),
    ("stable in MD, fraction of 20 molecules", "md", "md_stability", "1", ""),
    ("energy drift in MD, meV/atom/ps", "md", "md_drift", "≤ 0.5", ""),
    ("forces against −∇E by finite differences", "validation", "force_gradient_error", "≤ 0.01", ""),
)
_ATOMS = {
    "all": "force_rmse",
    **{element: f"force_rmse_{element}" for element in ("H", "C", "N", "O", "F", "S", "Cl")},
    **{f"H on {element}": f"force_rmse_H_on_{element}" for element in ("C", "N", "O")},
    "H in intramolecular hydrogen bonds": "force_rmse_H_bonding",
}
_FURTHER = {
    "force_rmse": "force RMSE, eV/Å",
    "force_rmse_C": "C",
    "force_rmse_O": "O",
    "oxygen_over_carbon": "O/C ratio of the force RMSE, minus 1",
    "oxygen_over_carbon_relative": "the same, with relative force errors",
}
_BINS = ("0_to_100", "100_to_300", "300_to_500", "500_to_1000", "1000_to_3000", "3000_up")


def reduced(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a ``nox -s study`` report that the pages need, without findings and molecule names."""
    runs = []
    for run in report["runs"]:
        structures = run["metrics"]["structures"]
        kept = {"checks": {name: structures["checks"][name] for name in ("split_similarity", "hydrogen_fraction")}}
        kept |= {key: structures[key] for key in ("verdict", "holds")}
        runs.append({**run, "metrics": {**run["metrics"], "structures": kept}})
    then = report["then"]
    named = ("new", "lost", "changed")
    composition = {key: value for key, value in then["composition"].items() if key not in named}
    where = {part: then["where"][part][:most] for part, most in (("environments", 15), ("structures", 5))}
    dimers = {"summary": then["dimers"]["summary"]}
    further = {
        run: {"metrics": {name: found["metrics"][name] for name in _FURTHER}}
        for run, found in report["further"].items()
    }
    return {
        **report,
        "runs": runs,
        "further": further,
        "then": {**then, "composition": composition, "where": where, "dimers": dimers},
    }


def with_tables(page: str, results: Mapping[str, Any]) -> str:
    """Render each table between ``<!-- table NAME -->`` and ``<!-- end -->`` of ``page`` from ``results``.

    Raises
    ------
    KeyError
        A name is not the name of a table, or ``results`` lacks a run or an evaluation that a table needs.
    """
    return _MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found['name']](results)}\n{found[3]}", page)


def _acceptance(results: Mapping[str, Any]) -> str:
    settings = ("complete", "complete-scaffold", "bare")
    metrics = [_run(results, setting)["metrics"] for setting in settings]
    rows = (
        (heading, target, aim, *(_cell(one[file][metric]) for one in metrics))
        for heading, file, metric, target, aim in _ACCEPTANCE
    )
    return _markdown(("", "target", "aim", *(f"`{setting}`" for setting in settings)), rows)


def _atoms(results: Mapping[str, Any]) -> str:
    settings = ("complete", "complete-scaffold", "bare")
    metrics = [_validation(results, setting) for setting in settings]
    rows = ((atoms, *(_cell(one.get(metric)) for one in metrics)) for atoms, metric in _ATOMS.items())
    return _markdown(("force RMSE on, eV/Å", *(f"`{setting}`" for setting in settings)), rows)


def _bins(results: Mapping[str, Any]) -> str:
    metrics = _validation(results, "complete")
    rows = (
        (name.replace("_up", " and more").replace("_", " "), _cell(metrics[f"angular_error_mean_deg_at_{name}_mev"]))
        for name in _BINS
    )
    return _markdown(("teacher force, meV/Å", "mean angle, °"), rows)


def _control(results: Mapping[str, Any]) -> str:
    """Return the force RMSE by heavy element: each student on its own molecules, and ``bare`` on the complete ones."""
    columns = {
        "`complete`": _validation(results, "complete"),
        "`bare`, on its own molecules": _validation(results, "bare"),
        "`bare`, on the complete molecules": results["then"]["bare-on-complete"]["metrics"],
    }
    rows = (
        (element, *(_cell(metrics[f"force_rmse_{element}"]) for metrics in columns.values()))
        for element in ("C", "N", "O")
    )
    return _markdown(("force RMSE on, eV/Å", *columns), rows)


def _environments(results: Mapping[str, Any]) -> str:
    rows = (
        (
            f"{kind['atom']} bonded to {kind['bonded_to']}",
            f"{kind['atoms']:,}",
            f"{kind['force_rmse']:.3f}",
            f"{kind['force_rmse'] / kind['force_rms']:.1%}",
            f"{kind['share']:.1%}",
        )
        for kind in results["then"]["where"]["environments"]
    )
    headings = ("", "atoms", "force RMSE, eV/Å", "relative to their RMS teacher force", "share of the squared error")
    return _markdown(headings, rows)


def _strained(results: Mapping[str, Any]) -> str:
    rows = (
        (
            str(place),
            f"{one['share']:.1%}",
            one["worst_atom"].partition(" ")[0],
            f"{one['error']:.1f}",
            f"{one['force']:.1f}",
        )
        for place, one in enumerate(results["then"]["where"]["structures"], 1)
    )
    headings = ("structure", "share of the squared error", "worst atom", "its error, eV/Å", "its teacher force, eV/Å")
    return _markdown(headings, rows)


def _further(results: Mapping[str, Any]) -> str:
    """Return the errors on further molecules; the oxygen/carbon gate uses the one-sided upper end of the interval."""
    rows = []
    for run, found in results["further"].items():
        ratio = found["metrics"]["oxygen_over_carbon"]
        end = ratio["value"] + ONE_SIDED * (ratio["high"] - ratio["value"])
        rows.append((f"`{run}`", *(_cell(found["metrics"][name]) for name in _FURTHER), f"{end:.3f}"))
    return _markdown(("", *_FURTHER.values(), "upper end used by the gate, ≤ 0.20"), rows)


def _distorted(results: Mapping[str, Any]) -> str:
    metrics = ("force_rmse", "force_rmse_relative", "force_mae", "angular_error_mean_deg")
    rows = (
        (question.rpartition("-")[2], *(_cell(answer["metrics"][metric]) for metric in metrics))
        for question, answer in results["then"].items()
        if question.startswith("distorted-")
    )
    headings = (
        "displacement σ, Å",
        "force RMSE, eV/Å",
        "relative to the RMS teacher force",
        "force MAE per component, eV/Å",
        "mean angle, °",
    )
    return _markdown(headings, rows)


def _dimers(results: Mapping[str, Any]) -> str:
    return dimers_markdown(results["then"]["dimers"]["summary"], "").partition("\n\n")[2].rstrip()


def _species(results: Mapping[str, Any]) -> str:
    """Return the composition of the two labelled data sets."""
    sides = [results["then"]["composition"][side] for side in ("one", "other")]
    rows: list[tuple[str, ...]] = [
        (name, *(f"{side[name]:,}" for side in sides)) for name in ("molecules", "structures", "atoms")
    ]
    rows += [
        (f"{element}, % of the atoms", *(f"{side['species_percent'].get(element, 0.0):.2f}" for side in sides))
        for element in sides[0]["species_percent"]
    ]
    for key, name in (("sizes", "atoms per structure"), ("force", "force, eV/Å"), ("energy_per_atom", "eV/atom")):
        digits = 0 if key == "sizes" else 2
        for quantile in sides[0][key]["quantiles"]:
            values = (side[key]["quantiles"][quantile] for side in sides)
            rows.append((f"{name}: {quantile}", *(f"{value:.{digits}f}" for value in values)))
    return _markdown(("", "`complete`", "`bare`"), rows)


TABLES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "runs": lambda results: table(load_study("milestone"), results).rstrip(),
    "acceptance": _acceptance,
    "atoms": _atoms,
    "bins": _bins,
    "control": _control,
    "environments": _environments,
    "strained": _strained,
    "further": _further,
    "distorted": _distorted,
    "dimers": _dimers,
    "species": _species,
}


def _run(results: Mapping[str, Any], setting: str) -> Mapping[str, Any]:
    """Return the run of ``setting`` with the smallest seed."""
    runs = [run for run in results["runs"] if run["setting"] == setting]
    if not runs:
        raise KeyError(f"setting {setting!r} has not been run")
    found: Mapping[str, Any] = min(runs, key=lambda run: int(run["seed"]))
    return found


def _validation(results: Mapping[str, Any], setting: str) -> Metrics:
    metrics: Metrics = _run(results, setting)["metrics"]["validation"]
    return metrics


def _cell(metric: Mapping[str, Any] | None) -> str:
    if metric is None:
        return "no such atoms"
    if metric["value"] in (None, "undefined"):
        return "undefined"
    interval = [metric.get("low"), metric.get("high")]
    largest = max(abs(number) for number in (metric["value"], *interval) if number is not None)
    shown = ".0e" if 0 < largest < 5e-4 else ".3f" if largest < 1 else ".2f"
    value = format(metric["value"], shown)
    return value if None in interval else f"{value} ({interval[0]:{shown}} to {interval[1]:{shown}})"


def _markdown(headings: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
