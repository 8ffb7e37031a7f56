"""The stages under DVC itself: what re-runs, what refuses, and what is said of it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DVC = [sys.executable, "-m", "dvc"]
# What dvc.yaml names as dependencies, and what makes it a repository.
COPIED = ("checks", "models", "pipeline", "dvc.yaml", "params.yaml", ".dvcignore")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, with the small sample as its input."""
    for name in COPIED:
        source = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__")
        (shutil.copytree(source, tmp_path / name, ignore=ignore) if source.is_dir() else shutil.copy(source, tmp_path))
    (tmp_path / "samples").mkdir()
    shutil.copy(ROOT / "tests/pipeline/data/sample-40.sdf.gz", tmp_path / "samples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    # The stages are run by the interpreter that runs the tests.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    # Whatever an experiment has left in params.yaml.
    change(tmp_path, "regenerate", "input", value="samples")
    subprocess.run([*DVC, "init", "--no-scm", "--quiet"], check=True)
    return tmp_path


def repro(stage: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*DVC, "repro", stage], capture_output=True, text=True, check=False)


def change(project: Path, *path: str, value: object) -> None:
    content = yaml.safe_load((project / "params.yaml").read_text())
    section = content
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    (project / "params.yaml").write_text(yaml.safe_dump(content))


def test_without_hydrogen_nothing_is_labelled_and_the_decision_says_blocked(project: Path) -> None:
    change(project, "regenerate", "add_hydrogens", value=False)
    result = repro("label")
    assert result.returncode != 0
    said = " ".join((result.stdout + result.stderr).split())
    assert "contract structures, check explicit_hydrogens: structure" in said
    assert "has 0 explicit H, its valences imply" in said
    assert "160 of 160 structures fail. Make them explicit where they belong: stage regenerate does" in said
    assert not (project / "data/structures.ok").exists()
    assert not (project / "data/labelled.h5").exists()
    assert not (project / ".progress/labels.sqlite").exists()
    decision = subprocess.run(
        [sys.executable, "-m", "hydrogate.pipeline.decide"], capture_output=True, text=True, check=False
    )
    assert decision.returncode == 1
    assert "blocked" in decision.stdout
    assert json.loads((project / "metrics/decision.json").read_text())["next_milestone"] == "blocked"


def test_a_tighter_bound_that_still_holds_runs_its_check_and_guard_alone(project: Path) -> None:
    assert repro("guard_structures").returncode == 0
    token = (project / "data/structures.ok").read_bytes()
    assert "Running stage" not in repro("guard_structures").stdout
    change(project, "contracts", "structures", "hydrogen_fraction", "max", value=0.55)
    ran = [line for line in repro("guard_structures").stdout.splitlines() if line.startswith("Running stage")]
    assert ran == ["Running stage 'check_structures':", "Running stage 'guard_structures':"]
    assert (project / "data/structures.ok").read_bytes() == token
    change(project, "gates", "force_rmse", "threshold", value=0.2)
    assert "Running stage" not in repro("guard_structures").stdout
    change(project, "contracts", "structures", "hydrogen_fraction", "max", value=0.41)
    assert repro("guard_structures").returncode != 0
    assert not (project / "data/structures.ok").exists()


@pytest.mark.parametrize("content", [b"", b"no SDF at all\n", b"\x1f\x8b\x08\x00truncated"])
def test_an_input_that_is_no_sdf_file_exits_2_and_is_named(project: Path, content: bytes) -> None:
    name = "bad.sdf.gz" if content[:2] == b"\x1f\x8b" else "bad.sdf"
    (project / "samples" / name).write_bytes(content)
    change(project, "regenerate", "input", value=f"samples/{name}")
    result = subprocess.run(
        [sys.executable, "-m", "hydrogate.pipeline.regenerate"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert name in result.stderr
    assert "Traceback" not in result.stderr
    assert not (project / "data/structures.h5").exists()
