"""`hydrogate check --junit FILE --data-docs DIR`."""

from pathlib import Path

import pytest
from ase.build import molecule
from ase.io import write
from junitparser import Failure, JUnitXml
from typer.testing import CliRunner

from hydrogate.pipeline.cli import app


@pytest.fixture
def frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ethanol, and ethanol without its hydrogens."""
    monkeypatch.chdir(tmp_path)
    good = molecule("CH3CH2OH")
    bare = good[good.numbers != 1]
    for name, atoms in (("good", good), ("bare", bare)):
        atoms.info["smiles"] = "CCO"
        write(tmp_path / f"{name}.extxyz", atoms)
    return tmp_path


@pytest.mark.parametrize(("name", "status"), [("good", 0), ("bare", 1)])
def test_junit_agrees_with_the_exit_status(frames: Path, name: str, status: int) -> None:
    arguments = ["check", f"{name}.extxyz", "--profile", "small", "--junit", "made/junit.xml"]
    assert CliRunner().invoke(app, arguments).exit_code == status
    (suite,) = JUnitXml.fromfile("made/junit.xml")
    failed = [case.name for case in suite if any(isinstance(result, Failure) for result in case.result)]
    assert bool(failed) == bool(status)
    assert ("explicit_hydrogens" in failed) == bool(status)


def test_data_docs_are_written_below_the_contract(frames: Path) -> None:
    assert CliRunner().invoke(app, ["check", "bare.extxyz", "--profile", "small", "--data-docs", "docs"]).exit_code == 1
    assert sorted(path.name for path in Path("docs/structures").iterdir()) == ["expectations.html", "index.html"]
    assert "Failed" in Path("docs/structures/index.html").read_text()
