"""Tests of studies: missing runs in a clone, stored results, unchanged project, error messages."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hydrogate.checks.errors import BadParams
from studies import study
from studies.study import STUDIES, Study, load_study, refuse_unknown

ROOT = Path(__file__).resolve().parents[2]
SMALL = Study(
    reason="to see",
    params={"train.epochs": 2},
    settings={"one": {}, "two": {"train.loss.force": "mse", "regenerate.add_hydrogens": False}},
    seeds=(0, 1),
    stage="validate",
    columns={"RMSE": "validation.force_rmse", "CPU": "training.cpu_seconds", "O/C": "validation.oxygen_over_carbon"},
)


def git(place, *arguments):
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *author, *arguments], cwd=place, check=True)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a repository with one commit; fake DVC commands are recorded and write metrics."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "params.yaml").write_text("train: 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "a")
    (tmp_path / ".git/info/exclude").write_text("reports\n.studies\n")
    ran, removed, really, said = [], [], study._run, study._said

    def run(place, *command):
        if "dvc" not in command:
            really(place, *command)
            return
        if "remove" in command:
            removed.append(command[-1])
            return
        ran.append(command[command.index("exp") :])
        assert (place / "params.yaml").read_text() == "train: 1\n"
        (place / "params.yaml").write_text("as an experiment leaves them\n")
        (place / "metrics").mkdir(exist_ok=True)
        rmse = {"force_rmse": {"value": len(ran) / 10}, "oxygen_over_carbon": {"value": None}}
        (place / "metrics/validation.json").write_text(json.dumps(rmse))
        (place / "metrics/training.json").write_text(json.dumps({"cpu_seconds": 100.0}))

    def there(place, *command):
        names = [words[words.index("--name") + 1] for words in ran]
        return "\n".join(names) if "dvc" in command else said(place, *command)

    monkeypatch.setattr(study, "_run", run)
    monkeypatch.setattr(study, "_said", there)
    monkeypatch.chdir(tmp_path)
    return tmp_path, ran, removed


def test_each_setting_is_run_with_each_seed_and_nothing_twice(project):
    root, ran, _ = project
    study.run("small", SMALL, (0,), {})
    assert [command[command.index("--name") + 1] for command in ran] == ["small-one-0", "small-two-0"]
    assert "regenerate.add_hydrogens=false" in ran[1]
    assert "train.epochs=2" in ran[1]
    assert ran[1][-1] == "validate"
    report = study.run("small", SMALL, (0, 1), {})
    assert [(entry["setting"], entry["seed"]) for entry in report["runs"]] == [
        ("one", 0), ("two", 0), ("one", 1), ("two", 1),
    ]  # fmt: skip
    assert len(ran) == 4
    assert (root / "params.yaml").read_text() == "train: 1\n"
    assert study.table(SMALL, report).splitlines()[2:] == [
        "| one | 0.200 (0.100 to 0.300) | 100 (100 to 100) | undefined |",
        "| two | 0.300 (0.200 to 0.400) | 100 (100 to 100) | undefined |",
    ]


def test_a_setting_can_be_run_alone(project):
    _, ran, _ = project
    study.run("small", SMALL, (0, 1), {}, settings=["two"])
    assert [command[command.index("--name") + 1] for command in ran] == ["small-two-0", "small-two-1"]
    with pytest.raises(BadParams, match=r"no setting 'tow'.*did you mean 'two'"):
        study.run("small", SMALL, (0,), {}, settings=["tow"])


def test_a_sample_that_a_killed_experiment_took_away_is_not_made_again(project, monkeypatch):
    root, _, _ = project
    (root / "samples").mkdir()
    (root / "samples/.gitkeep").touch()
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "b")
    made = []
    monkeypatch.setattr(
        study.sampler,
        "write_sample",
        lambda path, *_: (made.append(path), path.parent.mkdir(parents=True), path.touch()),
    )
    of_three = SMALL.model_copy(update={"sample": study.Sample(count=3, seed=0)})
    file = root / ".studies/small/samples/sample-3-0.sdf.gz"
    for seeds in ((0,), (0, 1)):
        study.run("small", of_three, seeds, {})
        assert file.exists()
        file.unlink()
    assert len(made) == 1
    monkeypatch.setattr(study, "SAMPLER", ("sample.py",))  # simulates a changed sampler
    study.run("small", of_three, (2,), {})
    assert len(made) == 2


def test_a_column_may_be_what_a_check_observed():
    declared = SMALL.model_copy(update={"columns": {"similarity": "structures.checks.split_similarity.observed.mean"}})
    metrics, unknown = (
        {"structures": {"checks": {"split_similarity": {"observed": {"mean": value}}}}} for value in (0.25, "undefined")
    )
    runs = [{"setting": "one", "seed": 0, "metrics": metrics}, {"setting": "two", "seed": 0, "metrics": unknown}]
    assert study.table(declared, {"runs": runs}).splitlines()[2:] == ["| one | 0.250 |", "| two | undefined |"]


def test_questions_are_asked_once_when_the_runs_they_name_are_there(project, monkeypatch):
    asked, really = [], study._run

    def run(place, *command):
        if command[0].endswith("hydrogate"):
            asked.append((place, command[1:]))
            return
        really(place, *command)
        if "run" in command:
            (place / "data").mkdir(exist_ok=True)
            (place / "data/labelled.h5").write_text(command[command.index("--name") + 1])

    said = study._said

    def answered(place, *command):
        if not command[0].endswith("hydrogate"):
            return said(place, *command)
        asked.append((place, command[1:]))
        return '{"n": 1}'

    monkeypatch.setattr(study, "_run", run)
    monkeypatch.setattr(study, "_said", answered)
    both = ["hydrogate spoil one-0/labelled.h5 -o s.h5", "hydrogate evaluate --reference s.h5 --predicted two-0/p.h5"]
    declared = SMALL.model_copy(update={"then": {"alone": ["hydrogate show one-0/labelled.h5"], "both": both}})
    report = study.run("small", declared, (0,), {}, settings=["one"])
    assert report["then"] == {"alone": {"n": 1}}
    kept = Path(".studies/small-kept")
    assert asked == [(kept, ("show", "one-0/labelled.h5"))]
    assert (kept / "one-0/labelled.h5").read_text() == "small-one-0"
    report = study.run("small", declared, (0,), {})
    assert report["then"] == {"alone": {"n": 1}, "both": {"n": 1}}
    assert [command[0] for _, command in asked] == ["show", "spoil", "evaluate"]


def test_other_parameters_or_another_commit_begin_anew(project):
    root, ran, removed = project
    study.run("small", SMALL, (0,), {})
    study.run("small", SMALL, (0,), {"train.epochs": "1"})
    assert len(ran) == 4
    assert removed == ["small-one-0", "small-two-0"]
    assert "train.epochs=1" in ran[-1]
    git(root, "commit", "--quiet", "--allow-empty", "-m", "b")
    report = study.run("small", SMALL, (0,), {"train.epochs": "1"})
    assert len(ran) == 6
    assert len(report["runs"]) == 2


def test_what_was_measured_outlives_a_failure(project, monkeypatch):
    root, _, _ = project
    run = study._run

    def failing(place, *command):
        if "small-two-0" in command:
            raise RuntimeError("the experiment failed")
        run(place, *command)

    monkeypatch.setattr(study, "_run", failing)
    with pytest.raises(RuntimeError):
        study.run("small", SMALL, (0,), {})
    report = json.loads((root / "reports/studies/small.json").read_text())
    assert [entry["setting"] for entry in report["runs"]] == ["one"]
    assert "| two | not run | not run | not run |" in study.table(SMALL, report)


def test_changed_files_are_refused(project):
    root, ran, _ = project
    (root / "params.yaml").write_text("train: 2\n")
    with pytest.raises(BadParams, match=r"commit them first:\n M params\.yaml"):
        study.run("small", SMALL, (0,), {})
    assert not ran


def test_a_command_that_fails_is_named(tmp_path):
    with pytest.raises(RuntimeError, match="`git no-such-command` failed with exit status 1"):
        study._run(tmp_path, "git", "no-such-command")


def test_dvc_reports_to_nobody(tmp_path, monkeypatch):
    monkeypatch.delenv("DVC_NO_ANALYTICS", raising=False)
    said = "import os; print(os.environ['DVC_NO_ANALYTICS'])"
    assert study._said(tmp_path, sys.executable, "-c", said) == "1\n"
    study._run(tmp_path, sys.executable, "-c", f"import sys; {said}; sys.exit(os.environ['DVC_NO_ANALYTICS'] != '1')")


@pytest.mark.parametrize("name", sorted(path.stem for path in STUDIES.glob("*.yaml")))
def test_the_shipped_studies_change_what_exists(name):
    declared = load_study(name)
    refuse_unknown(declared, declared.seeds, {}, ROOT)


@pytest.mark.parametrize(
    ("changes", "given", "said"),
    [
        ({}, {"train.epoch": "1"}, "params.yaml has no key train.epoch; did you mean 'train.epochs'?"),
        ({}, {"trian.epochs": "1"}, "params.yaml has no key trian.epochs; "),
        ({}, {"train.seed.x": "1"}, "params.yaml has no key train.seed.x; "),
        ({}, {"train.epochs": "many"}, "changes of setting 'one': train.epochs: Input should be a valid integer"),
        ({}, {"train.epochs": "[1"}, "train.epochs: Input should be a valid integer"),
        ({"params": {"train.student": "pain"}}, {}, "setting 'one': train.student: .* did you mean 'painn'?"),
        ({"settings": {"a": {"train.size.painn.featurs": 1}}}, {}, "did you mean 'train.size.painn.features'?"),
        ({"stage": "valdate"}, {}, "dvc.yaml has no stage 'valdate'; did you mean 'validate'?"),
        ({"columns": {"x": "validaton.x"}}, {}, "column validaton.x: .* did you mean 'validation'?"),
        ({"then": {"a": ["hydrogate show on-0/x.h5"]}}, {}, "then: on-0/ is not the .* did you mean 'one-0'?"),
        ({"then": {"a": ["hydrogate show one-x/x.h5"]}}, {}, "then: one-x/ is not the SETTING-SEED/ folder of a run"),
    ],
)
def test_what_would_end_a_study_after_hours_is_said_before_it_begins(changes, given, said):
    with pytest.raises(BadParams, match=said.replace("?", r"\?")):
        refuse_unknown(SMALL.model_copy(update=changes), (0,), given, ROOT)


def test_a_change_is_a_key_and_a_value(monkeypatch):
    monkeypatch.setattr(study, "run", lambda *_, **__: pytest.fail("run"))
    with pytest.raises(BadParams, match=r"-S train\.epochs: expected KEY=VALUE"):
        study.main(["angular", "-S", "train.epochs"])
    monkeypatch.chdir(ROOT)
    with pytest.raises(BadParams, match=r"has no key train\.epoch; did you mean"):
        study.main(["angular", "-S", "train.epoch=1"])
    with pytest.raises(BadParams, match=r"train\.seed: Input should be greater than or equal to 0, got -1"):
        study.main(["angular", "--seeds", "-1"])


def test_an_unknown_study_is_refused_by_name():
    with pytest.raises(BadParams, match="did you mean 'milestone'"):
        load_study("milestones")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"setings": {}}, "unknown key setings; did you mean 'settings'?"),
        (
            {"sample": {"count": 1, "sed": 2}},
            "sample.seed: Field required; unknown key sample.sed; did you mean 'seed'?",
        ),
        ({"sample": {"count": 0, "seed": -1}}, "sample.count: Input should be greater than 0.*sample.seed: "),
        ({"seeds": ["one"]}, "seeds.0: Input should be a valid integer.*got 'one'"),
        ({"seeds": [-1]}, "seeds.0: Input should be greater than or equal to 0, got -1"),
    ],
)
def test_a_study_that_is_not_declared_as_it_should_be_is_refused(changes, said, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "STUDIES", tmp_path)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL.model_dump(mode="json") | changes))
    with pytest.raises(BadParams, match=f"studies/small.yaml: {said}"):
        load_study("small")


@pytest.mark.parametrize("text", ["", "reason: !!python/object/apply:os.system [ls]", "[1]"])
def test_a_study_that_is_no_mapping_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "STUDIES", tmp_path)
    (tmp_path / "small.yaml").write_text(text)
    with pytest.raises(
        BadParams, match=r"small\.yaml: (contains (nothing|a list)|not readable .*: could not determine)"
    ):
        load_study("small")
