"""Stage list_input: an edited, added or renamed input file changes its output; files that are not here do not."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from hydrogate.pipeline.program import stage_exit_status
from hydrogate.pipeline.stages import list_input

ROOT = Path(__file__).resolve().parents[3]
CASES = ROOT / "tests/pipeline/data/sdf"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose input is a glob outside of ``samples/``."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "data").mkdir()
    shutil.copy(CASES / "11c_ethyl_radical.sdf", tmp_path / "mine/a.sdf")
    monkeypatch.chdir(tmp_path)
    declare("mine/*.sdf")
    return tmp_path


def declare(spec: object) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["regenerate"]["input"] = spec
    Path("params.yaml").write_text(yaml.safe_dump(params, allow_unicode=True), encoding="utf-8")


def listed() -> dict[str, object]:
    assert stage_exit_status(list_input.main) == 0
    content = json.loads(list_input.OUTPUT.read_text())
    assert isinstance(content, dict)
    return content


def test_an_edit_a_new_file_and_a_new_name_change_the_output(project: Path) -> None:
    first = listed()
    assert (first["input"], first["files"]) == ("mine/*.sdf", 1)
    assert listed() == first
    edited = project / "mine/a.sdf"
    edited.write_text(edited.read_text().replace("M  RAD", "M  RAD"))
    assert listed() == first
    edited.write_text(edited.read_text() + "\n")
    second = listed()
    assert second["digest"] != first["digest"]
    shutil.copy(CASES / "32_hhh.sdf", project / "mine/b.sdf")
    third = listed()
    assert third["files"] == 2 and third["digest"] != second["digest"]
    (project / "mine/b.sdf").rename(project / "mine/c.sdf")
    assert listed()["digest"] != third["digest"]


def test_files_that_are_not_here_are_no_change(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = listed()
    shutil.rmtree(project / "mine")
    capsys.readouterr()
    assert listed() == first
    assert "the digest of the last run stands" in capsys.readouterr().out


@pytest.mark.parametrize("spec", ["elsewhere/*.sdf", ["mine/*.sdf", "elsewhere/a.sdf"]])
def test_other_files_that_are_not_here_fail(spec: object, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = listed()
    declare(spec)
    assert stage_exit_status(list_input.main) == 2
    assert "elsewhere/" in capsys.readouterr().err
    assert json.loads(list_input.OUTPUT.read_text()) == first


def test_a_damaged_listing_is_no_listing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed()
    shutil.rmtree(project / "mine")
    for content in ("{", "[]", '{"input": 3}'):
        list_input.OUTPUT.write_text(content)
        assert stage_exit_status(list_input.main) == 2
