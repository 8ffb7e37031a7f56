"""A data set in memory: its parts, its texts, its fingerprint."""

import pickle
from dataclasses import fields, replace

import numpy as np
import pytest

from hydrogate.checks import check
from hydrogate.checks.content import Text
from hydrogate.checks.dataset import TEXT, Dataset, Quarantined

TEXTS = ["", "C", "äöü.sdf", "", "非", "caf\udce9.sdf", "🙂"]


def lazy(data: Dataset) -> Dataset:
    """``data`` with its texts as they are stored."""
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
    assert {f.check: f.verdict for f in check(taken, "labels").findings}["complete"] == "pass"
