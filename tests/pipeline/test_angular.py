"""The study of the loss: runs what is missing, collects what is there, and the page shows what was measured."""

import json
import subprocess
from pathlib import Path

import dvc.api
import pytest

from hydrogate.checks.declared import BadParams
from hydrogate.pipeline import angular
from hydrogate.pipeline.params import load_params

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was run, in a repository of one commit, where the experiments of seed 0 are there already."""
    monkeypatch.chdir(tmp_path)
    for command in (
        ("git", "init", "--quiet"),
        ("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "a"),
    ):
        subprocess.run(command, check=True)
    commit = angular._said("git", "rev-parse", "HEAD").strip()
    there = "\n".join(setting.experiment(commit, 2, 0) for setting in angular.SETTINGS)
    said = angular._said
    monkeypatch.setattr(angular, "_said", lambda *command: said(*command) if command[0] == "git" else there)
    commands: list[list[str]] = []
    monkeypatch.setattr(angular, "_run", commands.append)

    def metrics(path: str, rev: str) -> dict[str, object]:
        value = float(rev[-1]) + ("mse" in rev)
        return {key: {"value": value} for key in angular.COLUMNS} if "validation" in path else {"cpu_seconds": 100.0}

    monkeypatch.setattr(dvc.api, "metrics_show", metrics)
    return commands


def test_what_is_there_is_not_run_again(ran: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert angular.main(["--epochs", "2", "--seeds", "0", "1"]) == 0
    assert len(ran) == len(angular.SETTINGS)
    assert all("train.seed=1" in command and "--temp" in command for command in ran)
    report = json.loads(angular.REPORT.read_text())
    assert report["settings"][0] | {"name": ""} == {
        "name": "",
        **{key: [1.0, 2.0] for key in angular.COLUMNS},
        "cpu_seconds": [100.0, 100.0],
    }
    assert "| mse | 1.50 (1.00 to 2.00) |" in capsys.readouterr().out


def test_files_that_are_changed_are_refused(ran: list[list[str]]) -> None:
    Path("params.yaml").write_text("train: 1\n")
    subprocess.run(["git", "add", "params.yaml"], check=True)
    with pytest.raises(BadParams, match=r"commit them first:\nA  params\.yaml"):
        angular.study(2, [0])
    assert not ran


def test_an_experiment_that_fails_ends_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        RuntimeError, match="`git no-such-command` ended with status 1; what was measured before is kept"
    ):
        angular._run(["git", "no-such-command"])


def test_the_parameters_are_those_that_exist() -> None:
    train = load_params(ROOT / "params.yaml").train
    for change in angular.SETTINGS[-1].parameters(6, 1)[1::2]:
        name = change.partition("=")[0].removeprefix("train.")
        assert hasattr(train.loss if name.startswith("loss.") else train, name.removeprefix("loss.")), change
