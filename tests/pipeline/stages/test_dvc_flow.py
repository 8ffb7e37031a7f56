"""Stages run by DVC: which stages rerun, which fail and with what message, and recovery after kills."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from hydrogate.pipeline.decision.staleness import stale_stages
from hydrogate.pipeline.params import load_params
from hydrogate.pipeline.stages import check, label, regenerate
from hydrogate.pipeline.storage.hdf5 import read_dataset

ROOT = Path(__file__).resolve().parents[3]
DVC = [sys.executable, "-m", "dvc"]
# The dependencies named in dvc.yaml, and the files that make a DVC repository.
COPIED = ("checks", "models", "pipeline", "dvc.yaml", "params.yaml", ".dvcignore")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy of the project with the small sample as its input."""
    for name in COPIED:
        source = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__")
        (shutil.copytree(source, tmp_path / name, ignore=ignore) if source.is_dir() else shutil.copy(source, tmp_path))
    (tmp_path / "samples").mkdir()
    shutil.copy(ROOT / "tests/pipeline/data/sample-40.sdf.gz", tmp_path / "samples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    # The stages run with the interpreter of the tests.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    # Independent of what an experiment has left in params.yaml.
    change(tmp_path, "regenerate", "input", value="samples")
    subprocess.run([*DVC, "init", "--no-scm", "--quiet"], check=True)
    return tmp_path


def repro(stage: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*DVC, "repro", stage], capture_output=True, text=True, check=False)


def stages_run(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The stages that ran, without the one that always runs."""
    lines = [line for line in result.stdout.splitlines() if line.startswith("Running stage")]
    return [stage for stage in (line.split("'")[1] for line in lines) if stage != "list_input"]


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
    assert "160 of 160 structures fail. Add explicit hydrogens with coordinates: use stage regenerate" in said
    assert not (project / "data/structures.ok").exists()
    assert not (project / "data/labelled.h5").exists()
    assert not (project / ".progress/labels.sqlite").exists()
    decision = subprocess.run(
        [sys.executable, "-m", "hydrogate.pipeline.decision.decide"], capture_output=True, text=True, check=False
    )
    assert decision.returncode == 1
    assert "blocked" in decision.stdout
    assert json.loads((project / "metrics/decision.json").read_text())["next_milestone"] == "blocked"


def test_a_tighter_bound_that_still_holds_runs_its_check_and_guard_alone(project: Path) -> None:
    assert repro("guard_structures").returncode == 0
    token = (project / "data/structures.ok").read_bytes()
    assert stages_run(repro("guard_structures")) == []
    change(project, "contracts", "structures", "hydrogen_fraction", "max", value=0.55)
    assert stages_run(repro("guard_structures")) == ["check_structures", "guard_structures"]
    assert (project / "data/structures.ok").read_bytes() == token
    change(project, "gates", "force_rmse", "threshold", value=0.2)
    assert stages_run(repro("guard_structures")) == []
    change(project, "contracts", "structures", "hydrogen_fraction", "max", value=0.41)
    assert repro("guard_structures").returncode != 0
    assert not (project / "data/structures.ok").exists()


def test_an_edited_input_file_outside_of_samples_runs_what_it_must(project: Path) -> None:
    mine = project / "mine" / "some.sdf.gz"
    mine.parent.mkdir()
    (project / "samples/sample-40.sdf.gz").rename(mine)
    change(project, "regenerate", "input", value="mine/*.sdf.gz")
    assert repro("guard_structures").returncode == 0
    assert stages_run(repro("guard_structures")) == []
    records = gzip.decompress(mine.read_bytes()).decode().split("$$$$\n")
    mine.write_bytes(gzip.compress("$$$$\n".join([*records[:30], ""]).encode()))
    assert stages_run(repro("guard_structures"))[0] == "regenerate"
    assert read_dataset(project / "data/structures.h5").n_read == 30
    assert "list_input" not in [stage for stage, _ in stale_stages(project)]


@pytest.mark.parametrize("content", [b"", b"no SDF at all\n", b"\x1f\x8b\x08\x00truncated"])
def test_an_input_that_is_no_sdf_file_exits_2_and_is_named(project: Path, content: bytes) -> None:
    name = "bad.sdf.gz" if content[:2] == b"\x1f\x8b" else "bad.sdf"
    (project / "samples" / name).write_bytes(content)
    change(project, "regenerate", "input", value=f"samples/{name}")
    result = subprocess.run(
        [sys.executable, "-m", "hydrogate.pipeline.stages.regenerate"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert name in result.stderr
    assert "Traceback" not in result.stderr
    assert not (project / "data/structures.h5").exists()


# In each process of a stage: send a signal just before a file with this name is moved into place.
ACCIDENT = """
import os, sys
from pathlib import Path

if len(sys.orig_argv) > 2 and sys.orig_argv[2].startswith("hydrogate.pipeline") and "ACCIDENT" in os.environ:
    name, number = os.environ["ACCIDENT"].split()

    def hook(event, arguments):
        if event == "os.rename" and str(arguments[1]).endswith(name):
            Path("accidents/of").write_text(f"{os.getpid()} ")
            os.kill(os.getpid(), int(number))

    sys.addaudithook(hook)
"""


@pytest.fixture
def ten(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Project with ten molecules in two geometries each, with no contract enforced, and with injected signals."""
    sample = project / "samples/sample-40.sdf.gz"
    records = gzip.decompress(sample.read_bytes()).decode().split("$$$$\n")
    sample.write_bytes(gzip.compress("$$$$\n".join([*records[:10], ""]).encode()))
    change(project, "regenerate", "sampling", "per_structure", value=1)
    change(project, "label", "workers", value=1)
    for contract in ("structures", "labels"):
        change(project, "contracts", contract, "enforce", value="report")
    (project / "accidents").mkdir()
    (project / "accidents/sitecustomize.py").write_text(ACCIDENT)
    monkeypatch.setenv("PYTHONPATH", str(project / "accidents"), prepend=os.pathsep)
    return project


def refused_beside(first: "subprocess.Popen[str]", stage: str) -> None:
    """Run a second `dvc repro` while a stage of ``first`` is stopped, then kill that stage."""
    stopped = Path("accidents/of")
    while not (stopped.exists() and stopped.read_text().endswith(" ")):
        assert first.poll() is None
        time.sleep(0.05)
    second = repro(stage)
    assert (second.returncode != 0, stages_run(second)) == (True, [])
    assert f"is busy, it is being blocked by:\n  (PID {first.pid}): " in second.stderr
    os.kill(int(stopped.read_text()), signal.SIGKILL)
    first.communicate()
    assert first.returncode != 0


def test_after_every_accident_dvc_repro_ends_as_if_there_had_been_none(
    ten: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCIDENT", f"data/structures.h5 {signal.SIGSTOP:d}")
    refused_beside(subprocess.Popen([*DVC, "repro", "label"], stdout=subprocess.PIPE, text=True), "label")
    assert not (ten / "data/structures.h5").exists()
    # Killed: after the check wrote its findings; before the guard wrote its token; after labelling, before the output.
    for before, number, ran in [
        ("data-docs/structures/index.html", signal.SIGKILL, ["regenerate", "check_structures"]),
        ("data/structures.ok", signal.SIGKILL, ["check_structures", "guard_structures"]),
        ("data/labelled.h5", signal.SIGINT, ["guard_structures", "label"]),
    ]:
        monkeypatch.setenv("ACCIDENT", f"{before} {number:d}")
        result = repro("label")
        assert (result.returncode != 0, stages_run(result)) == (True, ran)
        assert not (ten / before).exists()
        assert (ten / "metrics/structures.json").exists()
    assert "\ninterrupted; run the same command again" in result.stderr
    monkeypatch.delenv("ACCIDENT")
    result = repro("label")
    assert (result.returncode, stages_run(result)) == (0, ["label"])

    params = load_params(ten / "params.yaml")
    structures, counts = regenerate.run([ten / "samples/sample-40.sdf.gz"], params.regenerate)
    assert len(structures) == counts.n_read * 2 == 20
    assert read_dataset(ten / "data/structures.h5").fingerprint() == structures.fingerprint()
    assert (ten / "data/structures.ok").read_text() == f"structures {structures.fingerprint()}\n"
    report = check.run("structures", params)
    assert (ten / "metrics/structures.json").read_bytes() == check.write_report(report, ten / "expected").read_bytes()
    labelled = label.run(structures, params.label, ten / "expected")
    assert read_dataset(ten / "data/labelled.h5").fingerprint() == labelled.fingerprint()
    # Wrong file times, past or future, make no stage rerun.
    for year in (1, 90):
        for path in [path for path in ten.rglob("*") if ".dvc" not in path.parts and path.is_file()]:
            os.utime(path, (year * 3.15e7, year * 3.15e7))
        result = repro("label")
        assert (result.returncode, stages_run(result)) == (0, [])
