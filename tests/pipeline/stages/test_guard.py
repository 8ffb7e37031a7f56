"""Check, guard and token: a failed contract stops the later stages."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest

from hydrogate.checks import ContractViolation, Dataset, Report, check
from hydrogate.pipeline.program import stage_exit_status
from hydrogate.pipeline.stages import guard
from hydrogate.pipeline.stages.check import write_report
from hydrogate.pipeline.storage.hdf5 import UnreadableFile

# Checks that need a reference data set or a teacher for relabelling.
OFF = ("force_scale_by_element", "distribution_drift", "label_audit", "energy_force_consistency")


def judged(data: Dataset, **bounds: object) -> Report:
    """Check contract ``labels`` with its inputs, with the checks of ``OFF`` disabled."""
    section = {**{name: {"enabled": False} for name in OFF}, **bounds}
    return check(data, "labels", teacher=data.teacher, overrides=[("p", {"labels": section})])


def test_the_report_survives_its_file(labelled: Dataset, tmp_path: Path) -> None:
    report = judged(labelled)
    write_report(report, tmp_path)
    assert guard.read_report("labels", tmp_path) == report


def test_the_token_is_of_the_data_and_not_of_the_bounds(labelled: Dataset, tmp_path: Path) -> None:
    tokens = []
    for largest in (50, 49):
        report = judged(labelled, force_magnitude={"largest": {"max": largest}})
        tokens.append(guard.run(report, tmp_path).read_bytes())
    assert tokens[0] == tokens[1] == f"labels {labelled.fingerprint()}\n".encode()
    guard.require_token("labels", labelled.fingerprint(), tmp_path)


def test_a_contract_that_does_not_hold_removes_the_token_and_says_why(labelled: Dataset, tmp_path: Path) -> None:
    (tmp_path / "labels.ok").write_text("labels old\n")
    report = judged(replace(labelled, forces=-labelled.forces))
    with pytest.raises(ContractViolation, match="contract labels, check restoring_forces"):
        guard.run(report, tmp_path)
    assert not (tmp_path / "labels.ok").exists()


def test_a_check_that_could_not_run_refuses_in_the_pipeline(labelled: Dataset, tmp_path: Path) -> None:
    report = judged(replace(labelled, teacher=None))
    assert report.holds()
    with pytest.raises(ContractViolation, match="teacher_identity: not run"):
        guard.run(report, tmp_path)


@pytest.mark.parametrize("content", ["", "labels", "labels other", "structures FINGERPRINT"])
def test_without_the_right_token_nothing_goes_on(content: str, tmp_path: Path) -> None:
    if content:
        (tmp_path / "labels.ok").write_text(content.replace("FINGERPRINT", "abc"))
    with pytest.raises(ContractViolation, match=r"labels\.ok"):
        guard.require_token("labels", "abc", tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"contract": "labels"}', "{nonsense", "[" * 100_000])
def test_findings_that_are_none_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(UnreadableFile, match="not a contract report"):
        guard.read_report("labels", tmp_path)


def test_findings_that_cannot_be_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.json"
    path.mkdir()
    with pytest.raises(
        UnreadableFile, match=r"labels\.json: not readable \(Is a directory\); fix or remove it, then run"
    ):
        guard.read_report("labels", tmp_path)
    path.rmdir()
    path.write_text("{}")

    def refused(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refused)  # root may read every file
    with pytest.raises(UnreadableFile, match=r"labels\.json: not readable \(Permission denied\); fix or remove it"):
        guard.read_report("labels", tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("check", 3), ("allowed", 1e308), ("observed", [1]), ("observed", {"value": []}), ("examples", 3),
        ("verdict", "fine"), ("n", "many"), ("message", None),
    ],
)  # fmt: skip
def test_findings_of_wrong_types_are_refused(key: str, value: object, labelled: Dataset, tmp_path: Path) -> None:
    path = write_report(judged(labelled), tmp_path)
    content = json.loads(path.read_text())
    content["findings"][1][key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(UnreadableFile, match=rf"findings\.1\.{key}"):
        guard.read_report("labels", tmp_path)


@pytest.mark.parametrize("key", ["summary", "fingerprint", "profile"])
def test_a_report_of_wrong_types_is_refused(key: str, labelled: Dataset, tmp_path: Path) -> None:
    path = write_report(judged(labelled), tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: 3}))
    with pytest.raises(UnreadableFile, match=key):
        guard.read_report("labels", tmp_path)


def test_another_contracts_findings_are_refused(labelled: Dataset, tmp_path: Path) -> None:
    path = write_report(judged(labelled), tmp_path)
    path.rename(tmp_path / "structures.json")
    with pytest.raises(UnreadableFile, match="expected 'structures'"):
        guard.read_report("structures", tmp_path)


def test_exit_statuses(labelled: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: object) -> None:
    monkeypatch.chdir(tmp_path)
    assert stage_exit_status(lambda: guard.main(["labels"])) == 2
    write_report(judged(labelled))
    assert stage_exit_status(lambda: guard.main(["labels"])) == 0
    write_report(judged(replace(labelled, forces=-labelled.forces)))
    assert stage_exit_status(lambda: guard.main(["labels"])) == 1


def test_findings_are_json_that_every_reader_takes(labelled: Dataset, tmp_path: Path) -> None:
    energy = labelled.energy.copy()
    energy[0] = float("nan")
    path = write_report(judged(replace(labelled, energy=energy)), tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(path.read_text(), parse_constant=refuse)["verdict"] == "fail"
