"""Tests of output files, such as those of `hydrogate check --junit FILE --data-docs DIR`."""

import errno
from pathlib import Path

import pytest
from ase.build import molecule
from ase.io import write
from junitparser import Failure, JUnitXml
from typer.testing import CliRunner

from hydrogate.checks.errors import BadParams
from hydrogate.pipeline.cli import app
from hydrogate.pipeline.outputs import refuse_unwritable, write_text


@pytest.fixture
def frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write ethanol, and ethanol without its hydrogens."""
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


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a file, a folder, a broken link and a link to the file."""
    monkeypatch.chdir(tmp_path)
    Path("read.h5").write_text("x")
    Path("folder.h5").mkdir()
    Path("link").symlink_to("nowhere")
    Path("other.h5").symlink_to("read.h5")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("folder.h5", "folder.h5: expected a file, but this is a folder"),
        ("read.h5", "read.h5: would overwrite an input file"),
        ("other.h5", "other.h5: would overwrite an input file"),
        ("read.h5/new/out.h5", "cannot write to .*read.h5 .Not a directory."),
        ("link/out.h5", "cannot write to .*link .No such file or directory."),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_any_work(places: Path, path: str, why: str) -> None:
    with pytest.raises(BadParams, match=why):
        refuse_unwritable(Path(path), Path("gone.h5"), Path("read.h5"))
    assert sorted(one.name for one in places.iterdir()) == ["folder.h5", "link", "other.h5", "read.h5"]


LONG = "x" * 225 + ".h5"


def test_a_name_whose_temporary_name_is_too_long_is_refused_before_any_work(places: Path) -> None:
    with pytest.raises(BadParams, match=r"x\.h5: the name has 230 bytes, at most 229 are possible in .*; shorten it"):
        refuse_unwritable(places / "new" / f"xx{LONG}")
    with pytest.raises(BadParams, match="the name has 231 bytes"):
        refuse_unwritable(Path("Å" * 114 + ".h5"))
    with pytest.raises(BadParams, match="the name has 303 bytes"):
        refuse_unwritable(Path("x" * 300 + ".h5"))


def test_a_name_that_is_let_through_can_be_written(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getpid", lambda: 4_194_304)  # the largest process ID on Linux
    refuse_unwritable(Path(f"x{LONG}"))
    write_text(Path(f"x{LONG}"), "written")
    assert Path(f"x{LONG}").read_text() == "written"


def test_another_file_is_replaced_with_force_alone(places: Path) -> None:
    refuse_unwritable(Path("read.h5"), suffixes=(".h5", ".xyz"))
    for refused in ("read.h5", "other.h5"):
        with pytest.raises(
            BadParams, match=f"{refused}: already exists; choose another file, or overwrite it with --f"
        ):
            refuse_unwritable(Path(refused), force=False)
    with pytest.raises(BadParams, match=r"out\.csv: unknown suffix '\.csv'; expected \.h5, \.xyz"):
        refuse_unwritable(Path("out.csv"), suffixes=(".h5", ".xyz"))


@pytest.mark.parametrize("option", [("--junit", "good.extxyz"), ("--junit", "x" * 250), ("--data-docs", "good.extxyz")])
def test_artifacts_that_cannot_be_written_are_refused_before_the_check(
    frames: Path, option: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Path("good.extxyz").read_bytes()
    monkeypatch.setattr("hydrogate.pipeline.cli.checking._judge", lambda *_: pytest.fail("was judged"))
    result = CliRunner().invoke(app, ["check", "good.extxyz", "--profile", "small", *option])
    assert isinstance(result.exception, BadParams)
    assert Path("good.extxyz").read_bytes() == before


def test_a_read_only_place_is_refused_before_any_work(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(dir: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(dir))

    monkeypatch.setattr("hydrogate.pipeline.outputs.TemporaryFile", refused)
    with pytest.raises(BadParams, match=r"cannot write to .*Permission denied"):
        refuse_unwritable(Path("out.h5"))


def test_a_place_that_is_not_there_yet_is_no_fault(places: Path) -> None:
    refuse_unwritable(Path("new/folder/out.h5"), Path("read.h5"))
    assert not Path("new").exists()
