"""Tests that the milestone pages agree with their data, and that a missing run raises an error naming it."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from studies.render_pages import OF_RESULTS, RESULTS, main
from studies.results import _ACCEPTANCE, TABLES, reduced, with_tables

ROOT = Path(__file__).resolve().parents[2]
METRIC = {"value": 0.125, "unit": "eV/Å", "n": 3, "low": 0.1, "high": 0.15}


def metrics(setting):
    """Return metrics files of one run, in the layout of the committed ones."""
    found = {
        file: json.loads((ROOT / f"metrics/{file}.json").read_text("utf-8"))
        for file in ("validation", "training", "md", "structures")
    }
    if setting == "bare":
        found["validation"]["force_rmse_H"] = {"value": "undefined", "unit": "eV/Å", "n": 0}
    found["validation"]["force_rmse"] = {**METRIC, "value": 0.25 if setting == "bare" else 0.125}
    return found


@pytest.fixture
def report():
    """Return a complete report of the milestone study."""
    settings = ("complete", "complete-angular", "complete-scaffold", "bare", "bare-angular")
    row = {"group": "hydrogen bonds", "distance": "1.0", "n": 7, "interaction_teacher": -0.5, "force_rmse": 0.1}
    row |= {"student_against_teacher": 0.1, "teacher_against_ccsdt": 0.05, "force_teacher": 0.4}
    asked = {f"force_rmse_{element}": METRIC for element in ("C", "N", "O")}
    distorted = dict.fromkeys(("force_rmse", "force_rmse_relative", "force_mae", "angular_error_mean_deg"), METRIC)
    spread = {"quantiles": {"min": 1, "max": 2.5}}
    side = {"molecules": 1000, "structures": 2000, "atoms": 80000, "species_percent": {"H": 45.0, "C": 55.0}}
    side |= {"sizes": spread, "force": spread, "energy_per_atom": spread}
    error = {"force_rmse": 0.2, "force_rms": 2.0, "share": 0.237}
    bare = {**side, "species_percent": {"C": 100.0}}
    return {
        "study": "milestone",
        "runs": [{"setting": name, "seed": 0, "params": {}, "metrics": metrics(name)} for name in settings],
        "further": {"complete-0": {"metrics": metrics("complete")["validation"]}},
        "then": {
            "distorted-0.1": {"metrics": distorted},
            "dimers": {"summary": [row]},
            "bare-on-complete": {"metrics": asked},
            "where": {
                "environments": 20 * [{"atom": "O", "bonded_to": "S", "atoms": 1426, "molecules": 108, **error}],
                "structures": 9 * [{"structure": "CCO", "worst_atom": "C 5", "error": 13.15, "force": 47.0, **error}],
            },
            "composition": {"one": side, "other": bare, "lost": {"CCO": 2}},
        },
    }


@pytest.fixture
def pages():
    """Return the text of each page by its name."""
    return {page.name: (ROOT / page).read_text("utf-8") for page in OF_RESULTS}


@pytest.fixture
def published():
    """Return the published data of the pages."""
    return json.loads((ROOT / RESULTS).read_text("utf-8"))


def test_the_pages_are_rendered_from_the_published_figures(pages, published):
    for text in pages.values():
        assert "<!-- table " in text
        assert text == with_tables(text, published)


def test_the_targets_of_the_acceptance_are_the_strictest_of_params_yaml():
    params = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    limits = {
        "md_drift": [params["dynamics"]["limits"]["drift"]],
        "force_gradient_error": [params["contracts"]["predictions"]["energy_force_consistency"]["max"]],
    }
    for gate in params["gates"].values():
        limits.setdefault(gate["metric"], []).append(gate.get("threshold", [gate.get("low"), gate.get("high")]))
    for _, _, metric, target, _ in _ACCEPTANCE:
        numbers = [float(word) for word in target.split() if word[0].isdigit()]
        assert numbers == (limits[metric][0] if len(numbers) == 2 else [min(limits[metric])]), metric


def test_every_table_stands_on_a_page(pages):
    assert all(f"<!-- table {name} -->" in "".join(pages.values()) for name in TABLES)


def test_the_prose_says_what_the_tables_say(pages, published):
    of = {run["setting"]: run["metrics"] for run in published["runs"] if run["seed"] == 0}
    complete, gap = of["complete"]["validation"], of["complete"]["validation"]["oxygen_over_carbon"]
    torn = round((1 - of["bare"]["md"]["md_stability"]["value"]) * of["bare"]["md"]["md_stability"]["n"])
    seeds = [run["metrics"] for run in published["runs"] if run["setting"] == "complete"]
    stable = [run["md"]["md_stability"]["value"] for run in seeds]
    gaps = [f"{100 * run['validation']['oxygen_over_carbon']['value']:.0f}" for run in seeds[1:]]
    further = [published["further"][f"complete-{seed}"]["metrics"]["oxygen_over_carbon"] for seed in range(3)]
    values = [f"{100 * one['value']:.0f}" for one in further]
    ends = [f"{100 * (one['value'] + 1.645 / 1.960 * (one['high'] - one['value'])):.1f}" for one in further]
    text = " ".join(pages["results.md"].split())
    for sentence in (
        f"{100 * complete['hydrogen_fraction']['value']:.0f} % of the held-out atoms",
        f"{100 * complete['hydrogen_force_error']['value']:.1f} % of their forces",
        f"{100 * gap['value']:.0f} % above carbon's",
        f"from {100 * gap['low']:.0f} to {100 * gap['high']:.0f} %",
        f"({complete['n_structures']['value']:.0f}) are asked",
        f"{torn} of 20 molecules fall apart",
        f"with {stable.count(1.0)} of {len(stable)} seeds all 20",
        f"{20 * (1 - min(stable)):.0f} of the 20 falls apart",
        f"it is {', '.join(values[:2])} and {values[2]} %, with upper ends of {', '.join(ends[:2])} and {ends[2]} %",
        f"with the other seeds {' and '.join(gaps)} %",
    ):
        assert sentence in text


def test_with_the_angular_term_every_error_is_larger(published):
    of = {run["setting"]: run["metrics"]["validation"] for run in published["runs"] if run["seed"] == 0}
    for one, other in (("complete", "complete-angular"), ("bare", "bare-angular")):
        for metric in ("force_rmse", "angular_error_mean_deg", "force_rmse_C", "force_rmse_O"):
            assert of[one][metric]["value"] < of[other][metric]["value"]


def test_weighing_the_elements_narrows_the_gap_from_the_side_of_carbon(published):
    plain, balanced = (
        next(run for run in published["runs"] if run["setting"] == name)["metrics"]["validation"]
        for name in ("complete", "complete-balanced")
    )
    assert balanced["oxygen_over_carbon"]["value"] < plain["oxygen_over_carbon"]["value"]
    for metric in ("force_rmse", "force_rmse_C", "force_rmse_O"):
        assert balanced[metric]["value"] > plain[metric]["value"]


def test_tables_hold_each_figure_with_its_interval(report):
    kept = reduced(report)
    row = "| force RMSE, eV/Å | < 0.25 | < 0.10 |" + 2 * " 0.125 (0.100 to 0.150) |" + " 0.250 (0.100 to 0.150) |"
    assert row in TABLES["acceptance"](kept)
    assert "| stable in MD, fraction of 20 molecules | 1 |  | 1.00 | 1.00 | 1.00 |" in TABLES["acceptance"](kept)
    checks = json.loads((ROOT / "metrics/predictions.json").read_text(encoding="utf-8"))["checks"]
    slope = f"{checks['energy_force_consistency']['observed']['value']:.0e}"  # as the last run of the sample had it
    assert f"finite differences | ≤ 0.01 |  | {slope} | {slope} | {slope} |" in TABLES["acceptance"](kept)
    assert TABLES["atoms"](kept).splitlines()[3].endswith("| undefined |")
    assert "| bare | 0.250 | " in TABLES["runs"](kept)
    assert "| C | " in TABLES["control"](kept)
    assert TABLES["control"](kept).splitlines()[-1].endswith("| 0.125 (0.100 to 0.150) |")
    assert "| 0.1 | 0.125 (0.100 to 0.150) |" in TABLES["distorted"](kept)
    found = kept["further"]["complete-0"]["metrics"]["oxygen_over_carbon"]
    end = found["value"] + 1.645 / 1.960 * (found["high"] - found["value"])
    assert "| `complete-0` | 0.125 (0.100 to 0.150) | " in TABLES["further"](kept)
    assert TABLES["further"](kept).endswith(f" | {end:.3f} |")
    assert "| hydrogen bonds | 1.0 | 7 | -500.0 |" in TABLES["dimers"](kept)
    assert "| 3000 and more | " in TABLES["bins"](kept)
    assert "| complete-scaffold | 0.125 |" in TABLES["runs"](kept)
    assert "| molecules | 1,000 | 1,000 |\n" in TABLES["species"](kept)
    assert "| H, % of the atoms | 45.00 | 0.00 |" in TABLES["species"](kept)
    assert "| O bonded to S | 1,426 | 0.200 | 10.0% | 23.7% |" in TABLES["environments"](kept)
    assert TABLES["strained"](kept).splitlines()[-1] == "| 5 | 23.7% | C | 13.2 | 47.0 |"
    assert "lost" not in kept["then"]["composition"]
    assert all("findings" not in run["metrics"]["structures"] for run in kept["runs"])


def test_the_report_and_what_was_asked_further_become_the_figures(report, tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs/contracts.md", tmp_path / "docs")
    for page in OF_RESULTS:
        (tmp_path / page).write_text("<!-- table further -->\n<!-- end -->\n")
    (tmp_path / "more.json").write_text(json.dumps(report.pop("further")["complete-0"]))
    (tmp_path / "report.json").write_text(json.dumps(report))
    monkeypatch.chdir(tmp_path)
    assert main(["--milestone", "report.json", "--further", "complete-0=more.json"]) == 0
    assert set(json.loads(RESULTS.read_text("utf-8"))["further"]) == {"complete-0"}
    assert all("| `complete-0` |" in page.read_text("utf-8") for page in OF_RESULTS)


def test_what_is_between_the_marks_is_rendered_anew(report):
    page = "before\n<!-- table bins -->\nold\n<!-- end -->\nafter\n"
    once = with_tables(page, report)
    assert "old" not in once
    assert once.startswith("before\n<!-- table bins -->\n\n| teacher force")
    assert once.endswith("<!-- end -->\nafter\n")
    assert with_tables(once, report) == once


def test_a_run_that_is_missing_is_named(report):
    report["runs"] = [run for run in report["runs"] if run["setting"] != "bare"]
    with pytest.raises(KeyError, match="setting 'bare' has not been run"):
        TABLES["control"](report)
