"""Report of a branch in a temporary git repository, with the project's declarations and small metrics."""

import json
import shutil
import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from hydrogate.checks.errors import BadParams
from hydrogate.pipeline.cli import app
from hydrogate.pipeline.decision.staleness import Stale
from hydrogate.pipeline.reports.git_base import declaration_at, declaration_of, find_base
from hydrogate.pipeline.reports.report import run

# DVC uses a deprecated call of pygtrie.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[3]
METRIC = {"unit": "eV/Å", "n": 200}
PIPELINE = """\
stages:
  guard_labels: {cmd: "true", deps: [metrics/structures.json], params: [train]}
metrics: [metrics/structures.json, metrics/labels.json, metrics/validation.json, metrics/decision.json]
"""


def git(root: Path, *arguments: str) -> str:
    signed = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *signed, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "work")


def write_metrics(root: Path, force_rmse: float, hydrogen: float) -> None:
    (root / "metrics").mkdir(exist_ok=True)
    validation = {"force_rmse": METRIC | {"value": force_rmse, "low": force_rmse - 0.01, "high": force_rmse + 0.01}}
    (root / "metrics/validation.json").write_text(json.dumps(validation))
    findings = {
        "check": "hydrogen_fraction", "severity": "error", "n": 1, "n_bad": 0, "unit": "", "message": "H is rare.",
        "verdict": "pass" if hydrogen > 40 else "fail", "observed": {"value": hydrogen}, "allowed": {"value": "0.4"},
        "remedy": "", "reason": "", "source": "",
    }  # fmt: skip
    report = {
        "contract": "structures", "profile": "druglike", "fingerprint": "f", "switched_off": "",
        "summary": {"structures": 4000, "atoms": 9, "species_percent": {"H": hydrogen, "C": 100 - hydrogen}},
        "checks": {"hydrogen_fraction": {"verdict": findings["verdict"]}}, "findings": [findings],
    }  # fmt: skip
    (root / "metrics/structures.json").write_text(json.dumps(report))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Repository with a branch `work` at the commit of `main`."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "checks").mkdir()
    shutil.copy(ROOT / "checks/defaults.yaml", tmp_path / "checks")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\nanalytics = false\n")
    (tmp_path / ".gitignore").write_text("/.dvc/tmp\n/.dvc/cache\n")
    write_metrics(tmp_path, 0.13, 45.03)
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    git(tmp_path, "checkout", "--quiet", "-b", "work")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_branch_is_told_by_what_it_loosens_and_by_what_it_measures(project: Path) -> None:
    change(project / "params.yaml", "hydrogen_fraction: {min: 0.4, ", "hydrogen_fraction: {min: 0.0, ")
    change(project / "params.yaml", "  epochs: 12", "  epochs: 24")
    (project / ".github/workflows").mkdir(parents=True)
    (project / ".github/workflows/gates.yml").write_text("on: push\n")
    git(project, "add", ".github")
    write_metrics(project, 0.20, 0.0)
    text, marks = run(project, "main")
    for line in (
        "> **Loosened by this branch: 1**",
        "| validation force\\_rmse | 0.13 eV/Å \\(0.12 to 0.14, n = 200\\) | 0.2 eV/Å \\(0.19 to 0.21, n = 200\\) | "
        "\\+0.07 \\(\\+53.8%\\), worse | yes |",
        "| structures hydrogen\\_fraction | pass → fail | error | H is rare. | 0.4 |",
        "| structures H, % of the atoms | 45.03 | 0 | \\-45.03 |",
        "| train.epochs | 12 | 24 |",
        "Code that can change a verdict changed too, review it (1): .github/workflows/gates.yml.",
    ):
        assert line in text.splitlines()
    assert "**bound loosened** `contracts.structures.hydrogen_fraction.min`: 0.4 → 0.0" in text
    assert f"Compared with main \\({git(project, 'rev-parse', 'main')[:10]}\\)" in text
    assert "## Next milestone: **blocked**" in text  # most metrics are missing
    rows = Path("params.yaml").read_text().splitlines()
    (number,) = (line for line, row in enumerate(rows, 1) if "hydrogen_fraction: {min: 0.0" in row)
    assert marks[0] == (
        f"::error file=params.yaml,line={number},title=contract structures::"
        "contract structures, check hydrogen_fraction: H is rare."
    )
    assert f"::warning file=params.yaml,line={number},title=bound loosened::" in "\n".join(marks)


def test_without_a_change_nothing_is_loosened_and_no_metric_changed(project: Path) -> None:
    text, _ = run(project, "main")
    assert "**Nothing loosened**" in text
    assert "No metric changed." in text
    assert "Unchanged from the base: structures\\: 4000 structures, 9 atoms, H 45.03 %." in text
    assert "Not compared: metrics of main" in text and "missing metrics/labels.json, metrics/decision.json" in text


def test_what_others_changed_on_the_base_since_is_not_the_branchs_doing(project: Path) -> None:
    git(project, "checkout", "--quiet", "main")
    change(project / "params.yaml", "hydrogen_fraction: {min: 0.4, ", "hydrogen_fraction: {min: 0.44, ")
    commit(project)
    git(project, "checkout", "--quiet", "work")
    assert "**Nothing loosened**" in run(project, "main")[0]


def test_shipped_defaults_of_the_base_are_those_of_its_commit(project: Path) -> None:
    change(project / "params.yaml", "    net_torque: {max: 0.05}\n", "")
    commit(project)
    git(project, "checkout", "--quiet", "-b", "looser")
    change(project / "checks/defaults.yaml", "net_torque:\n        max: 0.05", "net_torque:\n        max: 5")
    text, _ = run(project, "work")
    assert "**bound loosened** `contracts.labels.net_torque.max`: 0.05 → 5" in text


def test_a_project_that_ships_no_bounds_takes_the_installed_ones(project: Path) -> None:
    shutil.rmtree(project / "checks")
    commit(project)
    git(project, "branch", "--force", "main")
    base = find_base(project, "main")
    declared, told = declaration_at(project, base)
    assert told == ()
    assert declared == declaration_of(project)
    assert declared.defaults == yaml.safe_load(files("hydrogate.checks").joinpath("defaults.yaml").read_text("utf-8"))


def test_a_base_from_before_the_declarations(project: Path) -> None:
    git(project, "checkout", "--quiet", "--orphan", "early")
    git(project, "rm", "-r", "--quiet", "--cached", ".")
    git(project, "add", ".gitignore", ".dvc")
    git(project, "commit", "--quiet", "--message", "early")
    git(project, "checkout", "--quiet", "-b", "later")
    commit(project)
    text, _ = run(project, "early")
    assert "has no params.yaml\\: nothing is declared there" in text
    assert "has no checks/defaults.yaml\\: the shipped bounds of this branch are used instead" in text
    assert "Nothing loosened" not in text


@pytest.mark.parametrize("content", [b"a: [", b"- 1\n", b"\x00", b"# \xe9\n", None])
def test_declarations_that_cannot_be_read_are_an_alarm(project: Path, content: bytes | None) -> None:
    if content is None:
        (project / "params.yaml").unlink()
        (project / "params.yaml").mkdir()
    else:
        (project / "params.yaml").write_bytes(content)
    text, _ = run(project, "main")
    assert "**blocked**" in text
    assert "**Not compared**: params.yaml\\: " in text and "its bounds cannot be compared" in text
    assert "Nothing loosened" not in text


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml"])
def test_a_declaration_that_the_branch_renamed_is_an_alarm(project: Path, name: str) -> None:
    (project / name).rename(project / "other.yaml")
    text, _ = run(project, "main")
    assert "**blocked**" in text
    assert f"**Not compared**: this branch has no {name}\\: nothing is declared in it" in text


def test_what_dvc_has_said_is_not_asked_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("hydrogate.pipeline.decision.staleness.stale_stages")
    assert "stage train\\: changed command" in run(project, stale=[Stale("train", "changed command")])[0]


def test_a_dvc_yaml_that_dvc_refuses_is_an_alarm(project: Path) -> None:
    change(project / "dvc.yaml", "stages:", "stagesssss:")
    text, _ = run(project, "main")
    assert "**blocked**" in text
    assert "metrics of this branch\\: DVC\\: YAMLValidationError" in text
    assert "**stage removed** `dvc.yaml stages.guard_labels`" in text


@pytest.mark.parametrize("content", ["stages: [1]\n", "plots: 5\n", "plots: [3, {}]\nstages: {a: {plots: b}}\n"])
def test_plots_that_are_none_are_no_fault_of_the_program(project: Path, content: str) -> None:
    (project / "dvc.yaml").write_text(content)
    assert "**blocked**" in run(project)[0]


def outside_git(project: Path) -> str:
    shutil.rmtree(project / ".git")
    return "main"


def no_such_revision(project: Path) -> str:
    return "mian"


def an_option(project: Path) -> str:
    return "--output=x"


def only_on_the_remote(project: Path) -> str:
    git(project, "update-ref", "refs/remotes/origin/release", "main")
    return "release"


def unrelated(project: Path) -> str:
    git(project, "checkout", "--quiet", "--orphan", "other")
    (project / "more").touch()
    commit(project)
    return "main"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (outside_git, "no git repository here"),
        (no_such_revision, "no such revision in this clone; `git branch -a`"),
        (an_option, "no such revision"),
        (only_on_the_remote, "did you mean origin/release?"),
        (unrelated, "no common ancestor with HEAD; name the branch that this one started from"),
    ],
)
def test_a_base_that_is_not_to_be_found(project: Path, spoil: Callable[[Path], str], says: str) -> None:
    with pytest.raises(BadParams, match="--base") as error:
        find_base(project, spoil(project))
    assert says in str(error.value)


def test_a_shallow_clone_is_told_what_to_fetch(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (project / "more").touch()
    commit(project)
    shallow = tmp_path_factory.mktemp("shallow")
    git(shallow, "clone", "--quiet", "--depth=1", "--branch=work", project.as_uri(), ".")
    with pytest.raises(BadParams, match="fetch-depth: 0"):
        find_base(shallow, "main")
    git(shallow, "fetch", "--quiet", "--depth=1", "origin", "main:main")
    with pytest.raises(BadParams, match="no common ancestor with HEAD; this clone is shallow"):
        find_base(shallow, "main")


def test_the_command_writes_the_report_and_prints_the_annotations(project: Path) -> None:
    write_metrics(project, 0.20, 0.0)
    result = CliRunner().invoke(app, ["report", "--base", "main", "--output", "reports/report.md", "--annotations"])
    assert result.exit_code == 0, result.output
    assert (project / "reports/report.md").read_text().startswith("<!-- hydrogate report -->\n## Next milestone")
    assert result.output.startswith("::error file=params.yaml,line=")
    assert "\n#" not in result.output
    printed = CliRunner().invoke(app, ["report", "--base", "main"]).output
    assert printed == (project / "reports/report.md").read_text()


def test_the_page_of_the_run_is_linked_where_there_is_one(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.com")
    monkeypatch.setenv("GITHUB_REPOSITORY", "ann/hydrogate")
    monkeypatch.setenv("GITHUB_RUN_ID", "77")
    text, _ = run(project)
    assert "<https://github.com/ann/hydrogate/actions/runs/77>" in text
    assert "Compared with" not in text
    monkeypatch.setenv("GITHUB_RUN_ID", "77>](javascript:x)")
    assert "actions/runs" not in run(project)[0]
