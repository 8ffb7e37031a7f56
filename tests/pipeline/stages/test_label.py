"""Labelling: correct, resumable, no structure labelled twice, failures with the teacher's message."""

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from hydrogate.checks.data.dataset import Dataset
from hydrogate.models.teachers import Failure, Labels, make_teacher
from hydrogate.pipeline.params import Label
from hydrogate.pipeline.stages import label
from hydrogate.pipeline.storage.resume import LabelStore, Stored

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
    result = label.run(replace(few, spin_multiplicity=odd), PARAMS, tmp_path)
    assert len(result) == 5
    (record,) = result.quarantine
    assert (record.source, record.source_index) == ("good.sdf", int(few.source_index[2]))
    assert "multiplicity" in record.reason


class Small:
    """Teacher with memory for ``room`` atoms that cannot label nitrogen and takes eleven structures at once."""

    dipoles, batch, room = False, 11, 9

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def identity(self) -> dict[str, Any]:
        return {"name": "small"}

    def label(self, structures: Sequence[Atoms]) -> list[Labels | Failure]:
        self.asked.append([atoms.get_chemical_formula() for atoms in structures])
        return [
            Failure("no nitrogen")
            if 7 in atoms.numbers
            else Labels(0.0, np.zeros((len(atoms), 3)))
            if len(atoms) <= self.room
            else Failure("no memory", lasting=False)
            for atoms in structures
        ]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Small:
    """Small teacher that labels in this process, without workers."""
    teacher = Small()
    monkeypatch.setattr(label, "teacher_of", lambda params: teacher)
    monkeypatch.setattr(label, "_teacher_here", lambda params, identity: teacher)
    monkeypatch.setattr(label, "connected", lambda *given, **more: nullcontext())
    monkeypatch.setattr(
        label, "over_workers", lambda client, ask, chunks, lost: ([(k, ask(c))] for k, c in enumerate(chunks))
    )
    return teacher


def test_what_had_no_room_here_is_tried_again_and_what_cannot_be_labelled_is_not(
    structures: Dataset, tmp_path: Path, small: Small
) -> None:
    few = structures.subset(range(12))  # ethanol, acetic acid, benzene and alanine, three geometries each
    result = label.run(few, PARAMS, tmp_path)
    assert len(result) == 6
    assert {record.reason for record in result.quarantine} == {
        "no nitrogen",
        "no memory; the next run of stage label tries it again",
    }
    assert [len(chunk) for chunk in small.asked] == [11, 1]
    small.asked.clear()
    small.room = 12
    result = label.run(few, PARAMS, tmp_path)
    assert small.asked == [["C6H6"] * 3]
    assert (len(result), {record.reason for record in result.quarantine}) == (9, {"no nitrogen"})


def test_a_teacher_that_takes_them_one_by_one_is_given_the_usual_chunk(
    structures: Dataset, tmp_path: Path, small: Small
) -> None:
    small.batch = 1
    label.run(structures.subset(range(12)), PARAMS, tmp_path)
    assert [len(chunk) for chunk in small.asked] == [8, 4]


def test_a_teacher_that_labels_nothing_is_an_error(structures: Dataset, tmp_path: Path) -> None:
    few = structures.subset(range(3))
    with pytest.raises(ValueError, match="labelled none of 3 structures"):
        label.run(replace(few, spin_multiplicity=np.full(3, 2, np.int16)), PARAMS, tmp_path)


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
    # The old format: a table of energies and forces in WAL mode, marked here by an energy that no teacher predicts.
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
    teacher = label.teacher_of(PARAMS.model_copy(update={"settings": {"accuracy": 0.01}}))
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
