"""Label store: damage is always detected, and intact rows can be recovered."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from hydrogate.pipeline.program import stage_exit_status
from hydrogate.pipeline.storage import resume as progress
from hydrogate.pipeline.storage.resume import DamagedStore, LabelStore, Stored, salvage

TEACHER = {"name": "fake"}


@pytest.fixture(scope="module")
def answers() -> dict[str, Stored]:
    rng = np.random.default_rng(0)
    return {
        rng.bytes(32).hex(): Stored(
            -0.0 if row == 0 else np.float64(-1.5 * row),
            rng.normal(size=(4, 3)).astype(np.float32),
            "",
            rng.normal(size=3),
            rng.normal(size=4).astype(np.float32),
        )
        for row in range(60)
    }


@pytest.fixture
def path(answers: dict[str, Stored], tmp_path: Path) -> Path:
    with LabelStore(tmp_path / "labels.sqlite", TEACHER) as store:
        store.add(list(answers.items()))
    return tmp_path / "labels.sqlite"


def assert_sound(path: Path, answers: dict[str, Stored]) -> None:
    with LabelStore(path, TEACHER) as store:
        assert store.known(charges=True) == set(answers)
        for key, answer in answers.items():
            stored = store.get(key)
            assert stored.energy == answer.energy
            for name in ("forces", "dipole", "charges"):
                np.testing.assert_array_equal(getattr(stored, name), getattr(answer, name))


def test_a_damaged_store_is_named_or_reads_as_it_was(
    path: Path, answers: dict[str, Stored], damaged: Callable[[bytes, int], Iterator[bytes]]
) -> None:
    whole = path.read_bytes()
    named = 0
    for content in damaged(whole, 40):
        path.write_bytes(content)
        try:
            assert_sound(path, answers)
        except DamagedStore as error:
            named += 1
            assert f"{path}: the stored labels are damaged" in str(error)
            assert f"python -m hydrogate.pipeline.storage.resume {path}" in str(error)
    assert named > 10


def test_what_is_sound_is_saved_and_only_the_rest_asked_again(
    path: Path, answers: dict[str, Stored], capsys: pytest.CaptureFixture[str]
) -> None:
    content = path.read_bytes()
    energy = next(iter(answers))
    spoiled = list(answers)[7]
    forces = answers[spoiled].forces.tobytes()
    assert content.count(forces) == 1
    path.write_bytes(content.replace(forces, bytes([forces[0] ^ 1]) + forces[1:]))
    with pytest.raises(DamagedStore, match=r"1 rows of labels do not match their digest\); 59 of them are intact"):
        LabelStore(path, TEACHER)
    assert progress.main([str(path)]) == 0
    assert "59 labels kept" in capsys.readouterr().out
    assert path.with_name("labels.sqlite.damaged").exists()
    with LabelStore(path, TEACHER) as store:
        assert store.known(charges=True) == set(answers) - {spoiled}
        store.add([(spoiled, answers[spoiled])])
        assert store.get(energy).energy == 0
    assert_sound(path, answers)


def test_an_emptied_file_is_damage_and_no_new_store(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(DamagedStore, match="0 of them are intact"):
        LabelStore(path, TEACHER)
    assert salvage(path) == 0


def test_the_remains_of_a_killed_process_are_not_read_into_a_new_store(path: Path, answers: dict[str, Stored]) -> None:
    content = path.read_bytes()
    path.unlink()
    for name in ("labels.sqlite.new", "labels.sqlite.new-journal", "labels.sqlite-journal", "labels.sqlite-wal"):
        path.with_name(name).write_bytes(content[:5000])
    with LabelStore(path, TEACHER) as store:
        assert store.known() == set()
        store.add(list(answers.items()))
    assert_sound(path, answers)


def test_a_transaction_that_was_under_way_when_the_process_died_is_undone(
    path: Path, answers: dict[str, Stored]
) -> None:
    whole = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA cache_size = 1")  # pages that do not fit are written before the transaction ends
        connection.execute("BEGIN")
        connection.execute("UPDATE labels SET energy = 1")
        journal = path.with_name("labels.sqlite-journal").read_bytes()
        half = path.read_bytes()
    assert half != whole
    path.write_bytes(half)
    path.with_name("labels.sqlite-journal").write_bytes(journal)
    assert_sound(path, answers)


def test_a_store_that_cannot_be_written_says_so_with_status_2(
    path: Path, answers: dict[str, Stored], capsys: pytest.CaptureFixture[str]
) -> None:
    def add() -> int:
        with LabelStore(path, TEACHER) as store:
            store._connection.execute("PRAGMA max_page_count = 1")  # no further pages: simulates a full disk
            store.add([(f"{row:064x}", answer) for row, answer in enumerate(answers.values())])
        return 0

    assert stage_exit_status(add) == 2
    said = capsys.readouterr().err
    assert "database or disk is full; the labels stored so far are kept; free disk space" in said
    assert_sound(path, answers)


def test_another_kind_of_database_is_not_taken_for_a_store(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE other (x)")
    with pytest.raises(DamagedStore, match=r"version 0 with the tables \['other'\]"):
        LabelStore(path, TEACHER)
    path.write_text("no database\n")
    with pytest.raises(DamagedStore, match="file is not a database"):
        LabelStore(path, TEACHER)
