"""HDF5 files that were made to harm: what they hold lies elsewhere, is of another kind, or is said to be enormous."""

from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms

from hydrogate.checks.dataset import Dataset
from hydrogate.pipeline.formats import read
from hydrogate.pipeline.hdf5 import UnreadableFile, parts, read_dataset, verify, write_dataset

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
        with pytest.raises(UnreadableFile, match=r"data\.h5: /atoms/numbers lies in another file"):
            look(stored)


def test_nor_are_the_molecules_of_spice(few: Dataset, written: Written) -> None:
    path = written(few, ".hdf5")
    other = path.with_name("other.hdf5")
    other.write_bytes(path.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["molecule-003"]
        file["molecule-003"] = h5py.ExternalLink(other, "molecule-003")
    with pytest.raises(UnreadableFile, match=r"data\.hdf5: /molecule-003/\w+ lies in another file"):
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
        with pytest.raises(
            UnreadableFile, match=r"/atoms/numbers says that it is 1099511627776 bytes, allowed at most"
        ):
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
