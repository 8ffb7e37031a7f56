"""Text of SDF records, and the files that an input names: an invalid file is rejected with its name."""

import errno
import gzip
import os
from pathlib import Path

import pytest
from rdkit import Chem

from hydrogate.pipeline.molecules.records import raw_records, resolve_input, source_names
from hydrogate.pipeline.storage.hdf5 import UnreadableFile

ETHANOL = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO")) + "$$$$\n"


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "an empty file"),
        (b"Dear colleague,\nplease find the structures attached.\n", "not an SDF file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(5000), "not an SDF file"),
        (gzip.compress(ETHANOL.encode() * 50)[:-40], "truncated or damaged compressed file"),
        (b"\x1f\x8b\x08\x00nonsense", "truncated or damaged compressed file"),
        (gzip.compress(b""), "not an SDF file"),
    ],
    ids=["empty", "letter", "hdf5", "cut gzip", "false gzip", "empty gzip"],
)
def test_an_unusable_file_is_refused_by_name(tmp_path: Path, content: bytes, wanted: str) -> None:
    path = tmp_path / "odd.sdf.gz"
    path.write_bytes(content)
    with pytest.raises(UnreadableFile, match=rf"odd\.sdf\.gz: .*{wanted}"):
        list(raw_records(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.sdf: no such file"):
        list(raw_records(tmp_path / "gone.sdf"))


def test_a_file_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydrogate.pipeline.molecules.records.LONGEST_RECORD", 1000)
    path = tmp_path / "long.sdf"
    path.write_text("M  END\n" * 1000)
    with pytest.raises(UnreadableFile, match=r"long\.sdf: .* without the end of a record"):
        list(raw_records(path))


@pytest.mark.parametrize("unit", [b"\n" * 1000 + b"$$$$\n", ETHANOL.encode()], ids=["empty", "ethanol"])
def test_a_gzip_bomb_is_refused_before_it_is_all_unpacked(tmp_path: Path, unit: bytes) -> None:
    path = tmp_path / "bomb.sdf.gz"
    path.write_bytes(gzip.compress(unit * (40_000_000 // len(unit))))
    read = 0
    with pytest.raises(UnreadableFile, match=r"bomb\.sdf\.gz: expands to more than 200 times its compressed size"):
        for record in raw_records(path):
            read += len(record)
    assert read < 28_000_000


def test_folders_globs_and_lists_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.sdf", "a.sdf.gz", "deep/c.SDF"):
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").write_text("x")
    found = resolve_input(str(tmp_path))
    assert [path.name for path in found.paths] == ["a.sdf.gz", "b.sdf", "c.SDF"]
    assert found.ignored == 1
    assert [p.name for p in resolve_input(str(tmp_path / "*.sdf")).paths] == ["b.sdf"]
    assert [p.name for p in resolve_input(str(tmp_path / "**" / "*.SDF")).paths] == ["c.SDF"]
    twice = resolve_input([str(tmp_path / "b.sdf"), str(tmp_path), str(tmp_path / "*.sdf")])
    assert len(twice.paths) == 3


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nothing/*.sdf", "nothing/*.sdf: no file matches this pattern"),
        ("gone.sdf", "gone.sdf: no such file or folder"),
        (["a.sdf", "gone.sdf"], "gone.sdf: no such file or folder"),
        ("dangling.sdf", "dangling.sdf: no such file or folder"),
        ("empty", "empty: a folder without files"),
        ("notes.txt", "notes.txt: not .sdf, .sd or .mol"),
        ("notes.*", "notes.*: 2 files, none of them .sdf, .sd or .mol"),
        ("others", "others: 1 file, not .sdf, .sd or .mol"),
        ("pipe.sdf", "pipe.sdf: a pipe or a device, which cannot be read twice"),
    ],
)
def test_an_input_that_names_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str | list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "others"):
        (tmp_path / folder).mkdir()
    for name in ("a.sdf", "notes.txt", "notes.md", "others/notes.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "dangling.sdf").symlink_to("gone.sdf")
    os.mkfifo(tmp_path / "pipe.sdf")
    with pytest.raises(UnreadableFile) as refusal:
        resolve_input(spec)
    assert str(refusal.value) == f"{said}; regenerate.input accepts SDF files, a folder, a glob, or a list of these"


def test_a_linked_folder_is_searched_and_each_folder_once(tmp_path: Path) -> None:
    for folder in ("in", "elsewhere"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.sdf").touch()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "elsewhere")
    assert [path.name for path in resolve_input(str(tmp_path / "in")).paths] == ["elsewhere.sdf", "in.sdf"]


def test_a_folder_that_cannot_be_looked_into_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.sdf").touch()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UnreadableFile, match=r"closed: cannot read folder: Permission denied"):
        resolve_input(str(tmp_path))


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_called_sdf_in_a_folder_and_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.sdf").touch()
    if kind == "link":
        (tmp_path / "b.sdf").symlink_to("gone.sdf")
    else:
        os.mkfifo(tmp_path / "b.sdf")
    said = {"link": "a link to a file that does not exist", "pipe": "a pipe or a device"}[kind]
    fix = "remove it from the folder, or list the files by name"
    with pytest.raises(UnreadableFile, match=rf"b\.sdf: .*{said}.*; {fix}"):
        resolve_input(str(tmp_path))


@pytest.mark.parametrize("spec", [[], "", ["a.sdf", ""]])
def test_an_empty_list_or_name_is_refused(
    spec: str | list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.sdf").touch()
    with pytest.raises(UnreadableFile, match=r"regenerate.input is empty.*; give an SDF file, a folder or a glob"):
        resolve_input(spec)


def test_files_of_one_name_keep_their_folder(tmp_path: Path) -> None:
    paths = [tmp_path / "run1" / "0.sdf", tmp_path / "run2" / "0.sdf"]
    assert source_names(paths) == ["run1/0.sdf", "run2/0.sdf"]
    assert source_names([tmp_path / "a.sdf", tmp_path / "deep" / "b.sdf"]) == ["a.sdf", "b.sdf"]
