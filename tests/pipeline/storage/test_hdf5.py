"""The project's file format: round trip, atomic writes, detection of damage."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from hydrogate.checks.data.dataset import TEXT, Dataset, Quarantined, concatenate
from hydrogate.checks.engine.partition import Parts
from hydrogate.pipeline.formats.join import join
from hydrogate.pipeline.storage.hdf5 import UnreadableFile, parts, read_dataset, verify, without_labels, write_dataset


def assert_equal(one: Dataset, other: Dataset) -> None:
    for item in fields(Dataset):
        if item.name != "_cache":
            np.testing.assert_equal(getattr(one, item.name), getattr(other, item.name), err_msg=item.name)


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


def test_dipoles_and_charges_survive_files_parts_and_joins(labelled: Dataset, stored: Path) -> None:
    back = read_dataset(stored)
    np.testing.assert_array_equal(back.dipole, labelled.dipole)
    np.testing.assert_array_equal(back.charges, labelled.charges)
    middle = slice(int(labelled.offset[3]), int(labelled.offset[9]))
    for some in (back.part(3, 9), back.subset(range(3, 9))):
        np.testing.assert_array_equal(some.dipole, labelled.dipole[3:9])
        np.testing.assert_array_equal(some.charges, labelled.charges[middle])
    without = replace(labelled, dipole=None, charges=None)
    joined = join([labelled.subset([0]), without.subset([1])])
    assert np.isnan(joined.dipole).tolist() == [[False] * 3, [True] * 3]
    assert np.isnan(joined.charges).sum() == labelled.sizes[1]
    assert join([without.subset([0]), without.subset([1])]).dipole is None
    assert not {"dipole", "charges"} & set(columns(without, stored.with_name("without.h5")))
    assert {"dipole", "charges"} <= set(columns(labelled, stored))
    assert without_labels(labelled).dipole is None
    assert without_labels(labelled).charges is None


def columns(data: Dataset, path: Path) -> list[str]:
    write_dataset(data, path)
    with h5py.File(path) as file:
        return [*file["atoms"], *file["structures"]]


def as_schema_1(data: Dataset, path: Path) -> None:
    """Write ``data`` in version 1 of the layout: one string per value, and another fingerprint."""
    write_dataset(data, path)
    with h5py.File(path, "r+") as file:
        texts = {f"structures/{name}": getattr(data, name).tolist() for name in TEXT}
        texts |= {f"quarantine/{name}": [getattr(q, name) for q in data.quarantine] for name in ("source", "reason")}
        for name, values in texts.items():
            del file[name]
            file.create_dataset(name, data=values, dtype=h5py.string_dtype())
        digest = hashlib.sha256()
        for item in fields(data):
            value = getattr(data, item.name)
            if item.name in ("first", "_cache") or (value is None and item.name != "teacher"):
                continue
            digest.update(item.name.encode())
            if isinstance(value, np.ndarray) and value.dtype != object:
                digest.update(str(value.dtype).encode() + str(value.shape).encode() + value.tobytes())
            else:
                plain = value.tolist() if isinstance(value, np.ndarray) else value
                digest.update(json.dumps(plain, sort_keys=True).encode())
        file.attrs["schema_version"], file.attrs["fingerprint"] = 1, digest.hexdigest()


def test_displacement_pairs_survive_files_parts_subsets_and_joins(labelled: Dataset, tmp_path: Path) -> None:
    own = np.arange(len(labelled))
    pairs = own.copy()
    pairs[[2, 3]] = [3, 2]
    data = replace(labelled, partner=pairs)
    assert data.fingerprint() != labelled.fingerprint()
    write_dataset(data, tmp_path / "pairs.h5")
    back = read_dataset(tmp_path / "pairs.h5")
    assert_equal(back, data)
    some = [part.read() for part in parts(tmp_path / "pairs.h5", atoms=40)]
    assert len(some) > 1
    assert join(some).partner.tolist() == pairs.tolist()
    assert back.part(2, 5).partner.tolist() == back.subset([2, 3, 4]).partner.tolist() == [1, 0, 2]
    assert back.part(3, 5).partner.tolist() == back.subset([3, 4]).partner.tolist() == [0, 1]
    assert back.subset([4, 3, 0, 2]).partner.tolist() == [0, 3, 2, 1]
    twice = join([labelled, data]).partner
    assert twice.tolist() == [*own, *(pairs + len(labelled))]
    assert join([labelled, labelled]).partner is None


def test_schema_1_is_read_and_keeps_its_fingerprint(labelled: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "old.h5"
    as_schema_1(replace(labelled, quarantine=(Quarantined("ä.sdf", 3, "no SCF"),)), path)
    old = read_dataset(path)
    assert replace(old).fingerprint() == replace(labelled, quarantine=old.quarantine).fingerprint()
    with h5py.File(path) as file:
        assert old.fingerprint() == verify(path) == file.attrs["fingerprint"]
    assert_equal(parts(path, 400)[1].read(), old.part(parts(path, 400)[1].first, parts(path, 400)[1].last))
    write_dataset(old, tmp_path / "new.h5")
    assert read_dataset(tmp_path / "new.h5").fingerprint() == verify(tmp_path / "new.h5") != old.fingerprint()
    with h5py.File(path, "r+") as file:
        file["structures/smiles"][0] = "C"
    for look in (read_dataset, verify):
        with pytest.raises(UnreadableFile, match="does not match its fingerprint"):
            look(path)


def test_unlabelled_and_empty_round_trip(structures: Dataset, tmp_path: Path) -> None:
    write_dataset(structures, tmp_path / "s.h5")
    assert read_dataset(tmp_path / "s.h5").energy is None
    write_dataset(concatenate([]), tmp_path / "empty.h5")
    assert len(read_dataset(tmp_path / "empty.h5")) == 0
    (part,) = parts(tmp_path / "empty.h5")
    assert part[1:] == (0, 0, 0)
    assert_equal(part.read(), concatenate([]))


def test_texts_are_not_decoded_before_they_are_used(stored: Path) -> None:
    data = read_dataset(stored)
    assert data.fingerprint()
    assert not set(TEXT) & set(vars(data))
    assert data.smiles[0] == "CCO"


@pytest.mark.parametrize("atoms", [1, 40, 400, 10**6])
def test_parts_are_the_whole_cut_between_molecules(atoms: int, stored: Path) -> None:
    whole, found = read_dataset(stored), parts(stored, atoms)
    assert verify(stored) == whole.fingerprint()
    assert [found[0].first, *(part.last for part in found)] == [*(part.first for part in found), len(whole)]
    assert sum(part.atoms for part in found) == len(whole.numbers)
    for part in found:
        data = part.read()
        assert_equal(data, whole.part(part.first, part.last))
        assert data.first == part.first
        assert set(whole.parent[part.first : part.last].tolist()) == {*(data.parent + part.first).tolist()}
        assert data.name(0) == whole.name(part.first)
        # The last molecule may exceed the limit.
        assert part.atoms < atoms + 3 * whole.sizes.max()
    assert len(found) == {1: 36, 40: 30, 400: 4, 10**6: 1}[atoms]


def test_a_file_is_cut_where_memory_is(labelled: Dataset, tmp_path: Path) -> None:
    """Interleaved families: geometries of the second molecule between those of the first."""
    first, second, rest = np.array_split(np.arange(len(labelled)), [3, 6])
    interleaved = labelled.subset([*np.ravel(np.column_stack([first, second])), *rest])
    write_dataset(interleaved, tmp_path / "data.h5")
    found, places = parts(tmp_path / "data.h5", 40), Parts.of(interleaved, atoms=40).places
    assert [(part.first, part.last) for part in found] == [(at.first, at.first + at.structures) for at in places]
    assert len(found) > 10
    for part in found:
        assert set(part.read().parent.tolist()) <= set(range(part.last - part.first))


def test_arrays_of_parts_lie_in_the_file_or_are_read(stored: Path) -> None:
    def read_of(path: Path) -> set[str]:
        """Return the columns of a part that were read into memory; the others are memory-mapped."""
        part = parts(path, 400)[1]
        data = part.read()
        assert_equal(data, read_dataset(path).part(part.first, part.last))
        return {name for name in ("numbers", "positions", "forces", "energy") if getattr(data, name).flags.writeable}

    assert read_of(stored) == set()
    other = stored.with_name("other.h5")
    with h5py.File(stored) as file, h5py.File(other, "w") as copy:
        copy.attrs.update(file.attrs)
        copy["odd"] = np.zeros(4099, np.uint8)  # data after it are not aligned, as in files of earlier versions
        for name in ("atoms", "structures", "quarantine"):
            file.copy(name, copy)
        del copy["atoms/forces"]
        copy.create_dataset("atoms/forces", data=file["atoms/forces"], compression="gzip")
    assert read_of(other) == {"positions", "forces", "energy"}


def test_a_parent_far_away_does_not_bind(labelled: Dataset, tmp_path: Path) -> None:
    parent = np.arange(len(labelled))
    parent[100] = 0
    write_dataset(replace(labelled, parent=parent), tmp_path / "far.h5")
    last = parts(tmp_path / "far.h5", 200)[-1].read()
    assert last.parent.tolist() == list(range(len(last)))


@pytest.mark.parametrize(
    "name", ["atoms/positions", "structures/energy", "structures/smiles/utf8", "quarantine/source_index"]
)
def test_verifying_finds_what_reading_finds(name: str, stored: Path) -> None:
    with h5py.File(stored, "r+") as file:
        file[name][-1] += 1
    for look in (read_dataset, verify):
        with pytest.raises(UnreadableFile, match="does not match its fingerprint"):
            look(stored)


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
        (lambda f: f["structures/offset"].__setitem__(5, 0), "offset must run from 0"),
        (lambda f: f["structures/smiles/ends"].__setitem__(5, 10**6), "does not match its fingerprint"),
        (lambda f: f.__delitem__("structures/smiles/ends"), "not a readable"),
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


def test_damaged_hdf5_is_refused_or_reads_as_it_was(
    labelled: Dataset, tmp_path: Path, damaged: Callable[[bytes, int], Iterator[bytes]]
) -> None:
    path = tmp_path / "x.h5"
    write_dataset(labelled.part(0, 12), path)
    whole, fingerprint = path.read_bytes(), read_dataset(path).fingerprint()
    refused = 0
    for content in damaged(whole, 60):
        path.write_bytes(content)
        try:
            assert read_dataset(path).fingerprint() == fingerprint
        except UnreadableFile as error:
            refused += 1
            assert str(path) in str(error)
            assert "create it again" in str(error)
    assert refused > 20
