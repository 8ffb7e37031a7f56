"""Labelling: right, resumable, nothing twice, failures with the teacher's words."""

import hashlib
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hydrogate.checks.dataset import Dataset
from hydrogate.models.teachers import make_teacher
from hydrogate.pipeline import label
from hydrogate.pipeline.params import Label
from hydrogate.pipeline.progress import LabelStore, Stored

PARAMS = Label(teacher="xtb", method="GFN2-xTB", weights=None, dipoles=True, workers=2)


def test_labels_are_the_teachers_own(structures: Dataset, labelled: Dataset, tmp_path: Path) -> None:
    few = structures.subset(range(20))
    result = label.run(few, PARAMS, tmp_path)
    np.testing.assert_array_equal(result.energy, labelled.energy[:20])
    np.testing.assert_array_equal(result.forces, labelled.forces[: few.offset[-1]])
    assert result.teacher == labelled.teacher
    assert (result.n_read, result.quarantine) == (20, ())


def test_what_is_known_is_not_given_to_the_teacher_again(
    structures: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = structures.subset(range(6))
    first = label.run(few, PARAMS, tmp_path)

    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(label, "_answers", refuse)
    assert label.run(few, PARAMS, tmp_path).fingerprint() == first.fingerprint()
    with pytest.raises(AssertionError, match="asked again"):
        label.run(structures.subset(range(7)), PARAMS, tmp_path)


def test_a_failure_is_quarantined_with_the_teachers_words(structures: Dataset, tmp_path: Path) -> None:
    few = structures.subset(range(6))
    odd = few.spin_multiplicity.copy()
    odd[2] = 2
    result = label.run(replace(few, spin_multiplicity=odd, _cache={}), PARAMS, tmp_path)
    assert len(result) == 5
    (record,) = result.quarantine
    assert (record.source, record.source_index) == ("good.sdf", int(few.source_index[2]))
    assert "multiplicity" in record.reason


def test_a_teacher_that_labels_nothing_is_an_error(structures: Dataset, tmp_path: Path) -> None:
    few = structures.subset(range(3))
    with pytest.raises(ValueError, match="labelled none of 3 structures"):
        label.run(replace(few, spin_multiplicity=np.full(3, 2, np.int16), _cache={}), PARAMS, tmp_path)


def test_dipoles_and_charges_are_labels_where_they_are_asked_for(
    structures: Dataset, labelled: Dataset, tmp_path: Path
) -> None:
    few = structures.subset(range(6))
    with_dipoles = label.run(few, PARAMS, tmp_path)
    assert with_dipoles.dipole.shape == (6, 3)
    np.testing.assert_array_equal(with_dipoles.dipole, labelled.dipole[:6])
    np.testing.assert_array_equal(with_dipoles.charges, labelled.charges[: few.offset[-1]])
    without = label.run(few, PARAMS.model_copy(update={"dipoles": False}), tmp_path)
    assert (without.dipole, without.charges) == (None, None)
    np.testing.assert_array_equal(without.forces, with_dipoles.forces)


def test_labels_from_before_there_were_dipoles_are_kept_and_asked_for_theirs(
    structures: Dataset, tmp_path: Path
) -> None:
    few = structures.subset(range(4))
    identity = make_teacher("xtb").identity()
    teacher = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    # As it was: a table of energies and forces in WAL mode, told apart here by an energy that no teacher gives.
    with closing(sqlite3.connect(tmp_path / "labels.sqlite")) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(
            "CREATE TABLE labels (structure TEXT, teacher TEXT, energy REAL, forces BLOB, reason TEXT, "
            "PRIMARY KEY (structure, teacher)) WITHOUT ROWID"
        )
        old = [(few.structure_fingerprint(row), teacher, 7.0, bytes(12 * few.sizes[row]), "") for row in (0, 1)]
        connection.executemany("INSERT INTO labels VALUES (?, ?, ?, ?, ?)", old)
    plain = label.run(few, PARAMS.model_copy(update={"dipoles": False}), tmp_path)
    assert plain.energy[:2].tolist() == [7.0, 7.0]
    asked = label.run(few, PARAMS, tmp_path)
    assert np.isfinite(asked.dipole).all()
    assert np.isfinite(asked.charges).all()
    np.testing.assert_array_equal(asked.energy, plain.energy)


def test_settings_reach_the_teacher() -> None:
    teacher = label._teacher(PARAMS.model_copy(update={"settings": {"accuracy": 0.01}}))
    assert teacher.identity()["settings"] == {**make_teacher("xtb").identity()["settings"], "accuracy": 0.01}


def test_another_teachers_labels_are_not_taken(tmp_path: Path) -> None:
    answer = Stored(-1.0, np.zeros((2, 3), np.float32), "")
    with LabelStore(tmp_path / "l.sqlite", {"name": "a"}) as store:
        store.add([("s", answer)])
        assert store.known() == {"s"}
    with LabelStore(tmp_path / "l.sqlite", {"name": "b"}) as store:
        assert store.known() == set()
        with pytest.raises(KeyError):
            store.get("s")
