"""Data set in memory: parts, text columns and fingerprint."""

import hashlib
import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from hydrogate.checks import check
from hydrogate.checks.data.dataset import TEXT, Dataset, Quarantined, concatenate
from hydrogate.checks.data.fingerprint import Text, fingerprint_of, fingerprint_of_schema_1

TEXTS = ["", "C", "äöü.sdf", "", "非", "caf\udce9.sdf", "🙂"]


def lazy(data: Dataset) -> Dataset:
    """Return ``data`` with its text columns in stored form."""
    return replace(data, **{name: Text.of(getattr(data, name)) for name in TEXT})


def assert_equal(one: Dataset, other: Dataset) -> None:
    for item in fields(Dataset):
        if item.name != "_cache":
            np.testing.assert_equal(getattr(one, item.name), getattr(other, item.name), err_msg=item.name)


@pytest.mark.parametrize("texts", [[], [""], ["a"], TEXTS, ["ascii", "alone", ""]])
def test_texts_come_back_as_they_were(texts: list[str]) -> None:
    stored = Text.of(texts)
    assert stored.decoded().tolist() == texts
    assert stored.decoded().dtype == object
    for first in range(len(texts) + 1):
        for last in range(first, len(texts) + 1):
            assert stored.part(first, last).decoded().tolist() == texts[first:last]


def test_texts_are_decoded_at_first_use_and_the_same(labelled: Dataset) -> None:
    stored = lazy(labelled)
    assert "smiles" not in vars(stored)
    assert stored.smiles is stored.smiles
    assert stored.smiles[3] == labelled.smiles[3]
    assert (stored.split != "").tolist() == (labelled.split != "").tolist()
    assert_equal(stored, labelled)
    assert_equal(lazy(labelled).subset([5, 2]), labelled.subset([5, 2]))
    with pytest.raises(AttributeError, match="'Dataset' object has no attribute 'smile'"):
        _ = stored.smile


def test_it_survives_pickling(labelled: Dataset) -> None:
    back = pickle.loads(pickle.dumps(lazy(labelled)))
    assert_equal(back, labelled)


def test_the_fingerprint_is_of_the_content_and_not_of_how_texts_are_held(labelled: Dataset) -> None:
    stored = lazy(labelled)
    assert stored.fingerprint() == labelled.fingerprint()
    assert stored.smiles is not None
    assert stored.fingerprint() == labelled.fingerprint()


@pytest.mark.parametrize("name", [item.name for item in fields(Dataset) if item.name not in ("_cache", "first")])
def test_every_field_is_in_the_fingerprint(name: str, labelled: Dataset) -> None:
    data = replace(
        labelled,
        cell=np.zeros((len(labelled), 3, 3)),
        pbc=np.zeros((len(labelled), 3), dtype=bool),
        heavy_atoms_moved=np.zeros(len(labelled), dtype=np.float32),
        dipole=np.zeros((len(labelled), 3)),
        charges=np.zeros(len(labelled.numbers), dtype=np.float32),
        partner=np.arange(len(labelled)),
        isolated_atom_energies={"H": -13.0},
    )
    value = getattr(data, name)
    changed = {
        "teacher": {"name": "other"},
        "quarantine": (("a.sdf", 0, "why"),),
        "n_read": 1,
        "isolated_atom_energies": {},
    }
    if name in TEXT:
        changed[name] = value.copy()
        changed[name][-1] += " "
    elif name not in changed:
        changed[name] = value.copy()
        changed[name].flat[-1] = not value.flat[-1] if value.dtype == bool else value.flat[-1] + 1
    assert replace(data, **{name: changed[name]}).fingerprint() != data.fingerprint()


def test_texts_that_run_together_are_told_apart(labelled: Dataset) -> None:
    one, other = (
        replace(labelled.subset([0, 1]), smiles=np.array(smiles, dtype=object)) for smiles in (["CC", "C"], ["C", "CC"])
    )
    assert one.fingerprint() != other.fingerprint()


def test_files_written_by_earlier_versions_keep_their_fingerprint() -> None:
    large = np.arange(600_000, dtype=np.float64)  # larger than one hash block
    content = [("energy", large), ("smiles", Text.of(TEXTS)), ("teacher", {"name": "xtb", "method": "GFN2"})]
    assert fingerprint_of(content) == "84d355c38cbac0db5eea92f53cdc412190c7fac3ae8fa5f4ca768ebf3b22eb33"
    energy = np.array([-1.5, 2.5])
    first = [("smiles", Text.of(["C", "CC"])), ("energy", energy), content[2], ("cell", None), ("n_read", 7)]
    hashed = (
        b'smiles["C", "CC"]energyfloat64(2,)' + energy.tobytes() + b'teacher{"method": "GFN2", "name": "xtb"}n_read7'
    )
    assert fingerprint_of_schema_1(first) == hashlib.sha256(hashed).hexdigest()


def test_what_was_read_cannot_be_changed_under_its_fingerprint(labelled: Dataset) -> None:
    data = lazy(labelled.subset(range(8))).stored("as the file says")
    assert data.fingerprint() == "as the file says"
    assert replace(data, n_read=5).fingerprint() != "as the file says"
    for name in ("forces", "energy", "smiles"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(data, name)[0] = 0


@pytest.mark.parametrize("how", [lambda data: data, lazy])
def test_parts_are_subsets(how, labelled: Dataset) -> None:
    for first, last in ((0, 4), (3, 11), (0, len(labelled)), (7, 7)):
        part = how(labelled).part(first, last)
        assert_equal(replace(part, first=0, n_read=0), labelled.subset(range(first, last)))
        assert part.first == first
        assert part.part(0, len(part)).first == first
    part = labelled.part(3, 11)
    assert np.shares_memory(part.positions, labelled.positions)
    assert part.name(2) == labelled.name(5)


def test_a_subset_does_not_know_what_was_read(labelled: Dataset) -> None:
    whole = replace(labelled, n_read=110, quarantine=(Quarantined("good.sdf", 3, "not 3-D"),) * 2)
    taken = whole.subset([4, 7])
    assert (taken.n_read, taken.quarantine) == (0, ())
    for item in fields(Dataset):
        if isinstance(values := getattr(whole, item.name), np.ndarray):
            assert getattr(whole.subset([]), item.name).dtype == values.dtype, item.name
    assert {f.check: f.verdict for f in check(taken, "labels").findings}["complete"] == "pass"


def test_what_atoms_say_is_kept_and_the_rest_has_its_defaults() -> None:
    ion = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"charge": -1})
    forces = [np.full((len(atoms), 3), 0.5) for atoms in (ion, molecule("NO"))]
    data = concatenate(
        [ion, molecule("NO")],
        energy=[-1.0, -2.0],
        forces=forces,
        heavy_atoms_moved=[0.25, 0.5],
        parent=[0, 0],
        n_read=9,
    )
    assert (data.charge.tolist(), data.spin_multiplicity.tolist()) == ([-1, 0], [1, 2])
    np.testing.assert_allclose(data.positions[:2], ion.positions)
    assert data.forces.tolist() == [[0.5] * 3] * 4
    assert (data.energy.tolist(), data.heavy_atoms_moved.tolist()) == ([-1.0, -2.0], [0.25, 0.5])
    assert (data.parent.tolist(), data.source_index.tolist(), data.n_read) == ([0, 0], [0, 1], 9)
    assert data.source.tolist() == data.smiles.tolist() == data.split.tolist() == data.inchikey.tolist() == ["", ""]
    assert data.expected_hydrogens.tolist() == [-1, -1]
    assert (data.cell, data.pbc, data.dipole, data.charges, data.partner) == (None,) * 5
    alone = concatenate([ion])
    assert (alone.energy, alone.forces, alone.heavy_atoms_moved) == (None, None, None)


def test_a_structure_comes_out_as_the_atoms_that_went_in() -> None:
    ion = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"charge": -1, "spin": 3})
    data = concatenate([bulk("Cu"), ion])
    assert data.to_atoms(1).info == {"charge": -1, "spin": 3}
    assert data.to_atoms(0).pbc.all() and not data.to_atoms(1).pbc.any()
    np.testing.assert_allclose(data.to_atoms(0).cell.array, bulk("Cu").cell.array)
    np.testing.assert_allclose(concatenate([ion]).to_atoms(0).positions, ion.positions)


def test_a_data_set_says_what_it_holds() -> None:
    water = molecule("H2O")
    assert repr(concatenate([water])) == "Dataset(1 structures, 3 atoms: H 66.7 %, O 33.3 %; unlabelled)"
    bare = concatenate([Atoms("C")], energy=[-1.0])
    assert repr(bare) == "Dataset(1 structures, 1 atoms: H 0.0 %, C 100.0 %; labelled by an unnamed teacher)"
    assert repr(replace(bare, teacher={"name": "xtb"})).endswith("labelled by xtb)")
    assert repr(concatenate([])) == "Dataset(0 structures, 0 atoms: H 0.0 %; unlabelled)"
