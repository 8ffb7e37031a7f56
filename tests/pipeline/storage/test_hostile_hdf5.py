"""Malicious HDF5 files: data stored in another file, of another type, or with a huge declared size.

Also files with damaged metadata, on which libhdf5 hangs or crashes.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ase import Atoms

from hydrogate.checks.data.dataset import Dataset
from hydrogate.pipeline.formats import read, trial
from hydrogate.pipeline.formats.shards import parts_of
from hydrogate.pipeline.storage.hdf5 import UnreadableFile, parts, read_dataset, verify, write_dataset

Written = Callable[[Dataset | Sequence[Atoms], str], Path]
ENERGY, NUMBERS = "structures/energy", "atoms/numbers"


@pytest.fixture
def stored(few: Dataset, tmp_path: Path) -> Path:
    path = tmp_path / "data.h5"
    write_dataset(few, path)
    return path


def external_link(file: h5py.File, name: str, other: Path) -> None:
    file[name] = h5py.ExternalLink(other, name)


def external_group(file: h5py.File, name: str, other: Path) -> None:
    group = name.rpartition("/")[0]
    del file[group]
    file[group] = h5py.ExternalLink(other, group)


def virtual(file: h5py.File, name: str, other: Path) -> None:
    with h5py.File(other) as there:
        layout = h5py.VirtualLayout(there[name].shape, there[name].dtype)
        layout[:] = h5py.VirtualSource(there[name])
    file.create_virtual_dataset(name, layout)


def external_storage(file: h5py.File, name: str, other: Path) -> None:
    file.create_dataset(name, (36,), np.uint8, external=[(other, 0, 36)])


@pytest.mark.parametrize("change", [external_link, external_group, virtual, external_storage])
def test_nothing_is_read_from_another_file(change: Callable[..., None], stored: Path) -> None:
    other = stored.with_name("other.h5")
    other.write_bytes(stored.read_bytes())
    with h5py.File(stored, "r+") as file:
        del file[NUMBERS]
        change(file, NUMBERS, other)
    for look in (read_dataset, verify, parts):
        with pytest.raises(UnreadableFile, match=r"data\.h5: /atoms/numbers is stored in another file"):
            look(stored)


def test_nor_are_the_molecules_of_spice(few: Dataset, written: Written) -> None:
    path = written(few, ".hdf5")
    other = path.with_name("other.hdf5")
    other.write_bytes(path.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["molecule-003"]
        file["molecule-003"] = h5py.ExternalLink(other, "molecule-003")
    with pytest.raises(UnreadableFile, match=r"data\.hdf5: /molecule-003/\w+ is stored in another file"):
        read(path)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("structures/charge", np.int16(0), r"int16 of shape \(\)"),
        (ENERGY, np.full(12, 1j), r"complex128 of shape \(12,\), expected an array of float64"),
        (ENERGY, np.zeros(12, [("a", "f8")]), r"expected an array of float64"),
        (ENERGY, h5py.Empty("f8"), ""),
        ("structures/offset", np.full(13, np.nan), r"float64 of shape \(13,\), expected an array of int64"),
        ("atoms/positions", np.full((108, 3), b"x"), r"\|S1 of shape \(108, 3\), expected an array of float32"),
        (NUMBERS, np.full(108, 1.5), r"float64 of shape \(108,\), expected an array of uint8"),
        ("structures/source/ends", np.full(12, 10**15), ""),
        ("structures/source/ends", np.full(12, -1), ""),
        ("quarantine/source_index", np.full(1, 1.5), r"expected an array of int64"),
    ],
)
def test_arrays_of_another_kind(name: str, values: object, words: str, stored: Path) -> None:
    with h5py.File(stored, "r+") as file:
        del file[name]
        file[name] = values
    for look in (read_dataset, verify):
        with pytest.raises(UnreadableFile, match=rf"data\.h5: .*{words}"):
            look(stored)


@pytest.mark.parametrize("how", [{"compression": "gzip"}, {}], ids=["gzip", "plain"])
def test_arrays_that_are_said_to_be_enormous(how: dict[str, str], stored: Path) -> None:
    with h5py.File(stored, "r+") as file:
        for name in ("positions", "forces", "charges"):
            del file[f"atoms/{name}"]
        del file[NUMBERS]
        file.create_dataset(NUMBERS, (2**40,), np.uint8, chunks=(2**16,), fillvalue=6, **how)
        file.create_dataset("atoms/positions", (2**40, 3), np.float32, chunks=(2**16, 3), **how)
        file["structures/offset"][-1] = 2**40
    for look in (read_dataset, verify, parts):
        with pytest.raises(UnreadableFile, match=r"/atoms/numbers claims 1099511627776 bytes, but at most"):
            look(stored)


def test_what_gzip_makes_of_a_data_set_is_read(labelled: Dataset, tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.h5", tmp_path / "packed.h5"
    write_dataset(labelled, plain)
    with h5py.File(plain) as file, h5py.File(packed, "w") as copy:
        copy.attrs.update(file.attrs)

        def pack(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                copy.create_dataset(
                    name,
                    data=item[...],
                    compression="gzip" if item.size else None,
                    compression_opts=9 if item.size else None,
                )

        file.visititems(pack)
    assert read_dataset(packed).fingerprint() == labelled.fingerprint()


def without_end(content: bytearray) -> None:
    """Set the length of the first text of the heap so that the next text is the same one: an endless loop."""
    place = content.index(b"GCOL") + 24
    content[place : place + 8] = (2**64 - 16).to_bytes(8, "little")


def of_two_gigabytes(content: bytearray) -> None:
    """Set the length of the text of an attribute, "hydrogate", to 2 GB."""
    place = content.index((9).to_bytes(4, "little") + content.index(b"GCOL").to_bytes(8, "little"))
    content[place : place + 4] = (2**31).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without_end, r"'fingerprint' of / takes more than 0\.3 s"),
        (of_two_gigabytes, "'format' of / takes more than 1024 MB of memory"),
    ],
)
def test_what_libhdf5_cannot_look_at_is_refused_in_time(
    damage: Callable[[bytearray], None], words: str, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "LONGEST", 0.3)
    content, sound = bytearray(stored.read_bytes()), stored.with_name("sound.h5")
    sound.write_bytes(content)
    damage(content)
    stored.write_bytes(content)
    for look in (read, lambda path: read(path, "hdf5"), lambda path: parts_of([path])):
        with pytest.raises(UnreadableFile, match=rf"data\.h5: damaged: reading attribute {words} .*create it again"):
            look(stored)
    assert len(read(sound)) == 12


def test_attributes_that_cannot_be_listed_are_refused(stored: Path) -> None:
    """libhdf5 stops at the bad attribute; a reader that looks up a later one by name could hang."""
    content = bytearray(stored.read_bytes())
    kind = content.index((8).to_bytes(4, "little") + bytes(2) + (64).to_bytes(2, "little"), content.index(b"n_read"))
    content[kind : kind + 4] = (19713).to_bytes(4, "little")
    stored.write_bytes(content)
    with h5py.File(stored) as file, pytest.raises(RuntimeError, match="unusually large"):
        list(file.attrs)
    for look in (read, lambda path: parts_of([path])):
        with pytest.raises(UnreadableFile, match=r"data\.h5: damaged: reading the attribute names of / fails"):
            look(stored)


def test_a_type_with_a_name_is_no_fault(stored: Path) -> None:
    with h5py.File(stored, "r+") as file:
        file["a_type"] = np.dtype("i4")
    assert len(read(stored)) == 12


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Collect the processes started from now on to inspect files."""
    started: list[Any] = []

    def process(asks: int) -> Any:
        started.append(trial.start())
        return started[-1]

    monkeypatch.setattr(trial, "_process", lru_cache(process))
    yield started
    for one in started:
        one.communicate()


def test_a_file_that_ends_the_process_is_refused(
    stored: Path, processes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly = stored.with_name("deadly.py")
    deadly.write_text("import os; input(); print('\"/atoms\"', flush=True); os.abort()")
    monkeypatch.setattr(trial, "__file__", str(deadly))
    with pytest.raises(
        UnreadableFile, match=r"data\.h5: damaged: reading /atoms crashes the process \(exit status -6\)"
    ):
        read(stored)
    assert len(processes) == 1


def test_one_process_looks_through_all_files(
    stored: Path, few: Dataset, written: Written, processes: list[Any]
) -> None:
    for path in (stored, stored, written(few, ".hdf5")):
        assert len(read(path)) == 12
    assert len(processes) == 1
