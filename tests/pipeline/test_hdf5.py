"""The project's file: round trip, written whole, damage named."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from hydrogate.checks.dataset import Dataset, Quarantined, concatenate
from hydrogate.pipeline.hdf5 import UnreadableFile, read_dataset, write_dataset, written_whole


@pytest.fixture
def stored(labelled: Dataset, tmp_path: Path) -> Path:
    path = tmp_path / "data.h5"
    write_dataset(replace(labelled, quarantine=(Quarantined("ä.sdf", 3, "no SCF"),)), path)
    return path


def test_round_trip(labelled: Dataset, stored: Path) -> None:
    back = read_dataset(stored)
    assert back.fingerprint() == replace(labelled, quarantine=(Quarantined("ä.sdf", 3, "no SCF"),)).fingerprint()
    assert back.quarantine == (Quarantined("ä.sdf", 3, "no SCF"),)
    np.testing.assert_array_equal(back.forces, labelled.forces)
    assert back.smiles.tolist() == labelled.smiles.tolist()


def test_unlabelled_and_empty_round_trip(structures: Dataset, tmp_path: Path) -> None:
    write_dataset(structures, tmp_path / "s.h5")
    assert read_dataset(tmp_path / "s.h5").energy is None
    write_dataset(concatenate([]), tmp_path / "empty.h5")
    assert len(read_dataset(tmp_path / "empty.h5")) == 0


def test_arrays_carry_units(stored: Path) -> None:
    with h5py.File(stored) as file:
        assert file["atoms/forces"].attrs["unit"] == "eV/angstrom"
        assert file["structures/energy"].attrs["unit"] == "eV"


def test_equal_content_gives_equal_bytes(labelled: Dataset, tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        write_dataset(labelled, tmp_path / name)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_changed_value_is_noticed(stored: Path) -> None:
    with h5py.File(stored, "r+") as file:
        file["atoms/forces"][0, 0] += 1.0
    with pytest.raises(UnreadableFile, match="does not match its fingerprint"):
        read_dataset(stored)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not HDF5 at all"),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    ],
    ids=["empty", "text", "truncated"],
)
def test_a_damaged_file_is_named(stored: Path, damage: object) -> None:
    damage(stored)
    with pytest.raises(UnreadableFile, match=r"data\.h5: not a readable hydrogate data set"):
        read_dataset(stored)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda f: f.attrs.__setitem__("schema_version", 99), "another kind"),
        (lambda f: f.attrs.__setitem__("format", "other"), "another kind"),
        (lambda f: f.__delitem__("atoms/numbers"), "not a readable"),
        (lambda f: f["structures/offset"].__setitem__(-1, 10**6), "offset must run from 0"),
    ],
)
def test_another_layout_is_refused(stored: Path, edit: object, words: str) -> None:
    with h5py.File(stored, "r+") as file:
        edit(file)
    with pytest.raises(UnreadableFile, match=words):
        read_dataset(stored)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.h5: no such file"):
        read_dataset(tmp_path / "gone.h5")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), written_whole(path) as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
