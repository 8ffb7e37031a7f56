"""Labelling: right, resumable, nothing twice, failures with the teacher's words."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from hydrogate.checks.dataset import Dataset
from hydrogate.models.teachers import make_teacher
from hydrogate.pipeline import label
from hydrogate.pipeline.hdf5 import write_dataset
from hydrogate.pipeline.params import Label
from hydrogate.pipeline.progress import AlreadyRunning, LabelStore, Stored

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

    monkeypatch.setattr(label, "over_processes", lambda function, chunks, workers: refuse() if chunks else iter(()))
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


def test_two_processes_at_once_are_refused(structures: Dataset, tmp_path: Path) -> None:
    with FileLock(tmp_path / "label.lock"), pytest.raises(AlreadyRunning, match="already at work on 'label'"):
        label.run(structures.subset(range(2)), PARAMS, tmp_path)


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
    # As it was: a table of energies and forces, told apart here by an energy that no teacher gives.
    old = [
        (few.structure_fingerprint(row), Stored(7.0, np.zeros((few.sizes[row], 3), np.float32), "")) for row in (0, 1)
    ]
    with LabelStore(tmp_path / "labels.sqlite", identity) as store:
        store.add(old)
    with sqlite3.connect(tmp_path / "labels.sqlite") as connection:
        connection.execute("DROP TABLE charges")
    connection.close()
    plain = label.run(few, PARAMS.model_copy(update={"dipoles": False}), tmp_path)
    assert plain.energy[:2].tolist() == [7.0, 7.0]
    asked = label.run(few, PARAMS, tmp_path)
    assert np.isfinite(asked.dipole).all()
    assert np.isfinite(asked.charges).all()
    np.testing.assert_array_equal(asked.energy, plain.energy)


def test_another_teachers_labels_are_not_taken(tmp_path: Path) -> None:
    answer = Stored(-1.0, np.zeros((2, 3), np.float32), "")
    with LabelStore(tmp_path / "l.sqlite", {"name": "a"}) as store:
        store.add([("s", answer)])
        assert store.known() == {"s"}
    with LabelStore(tmp_path / "l.sqlite", {"name": "b"}) as store:
        assert store.known() == set()
        with pytest.raises(KeyError):
            store.get("s")


SCRIPT = """
from pathlib import Path
from hydrogate.pipeline import label
from hydrogate.pipeline.hdf5 import read_dataset, write_dataset
from hydrogate.pipeline.params import Label
if __name__ == "__main__":
    params = Label(teacher="xtb", method="GFN2-xTB", weights=None, dipoles=True, workers=2)
    write_dataset(label.run(read_dataset(Path("in.h5")), params, Path("progress")), Path("out.h5"))
"""


def stored_labels(path: Path) -> int:
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            count = connection.execute("SELECT count(*) FROM labels").fetchone()[0]
        connection.close()
    except sqlite3.OperationalError:  # not there yet
        return 0
    return int(count)


def test_killed_and_started_again_it_ends_with_the_same_content(
    structures: Dataset, labelled: Dataset, tmp_path: Path
) -> None:
    write_dataset(structures, tmp_path / "in.h5")
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    store = tmp_path / "progress" / "labels.sqlite"
    process = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not stored_labels(store) > 0 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    kept = stored_labels(store)
    assert 0 < kept < len(structures), "killed too late to say anything"
    assert not (tmp_path / "out.h5").exists()
    subprocess.run([sys.executable, str(script)], cwd=tmp_path, check=True)
    assert stored_labels(store) == len(structures)
    assert (tmp_path / "out.h5").read_bytes() == undisturbed(labelled, tmp_path)


def undisturbed(labelled: Dataset, tmp_path: Path) -> bytes:
    # The stage labels structures, no isolated atoms.
    write_dataset(replace(labelled, isolated_atom_energies=None, _cache={}), tmp_path / "whole.h5")
    return (tmp_path / "whole.h5").read_bytes()
