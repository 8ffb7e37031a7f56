"""Labelling survives kill -9, a full disk, lost workers and a second start: no label lost or repeated, same bytes."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import yaml
from ase import Atoms
from distributed import LocalCluster

from hydrogate.checks.data.dataset import Dataset, concatenate
from hydrogate.pipeline.storage.hdf5 import read_dataset, write_dataset

ROOT = Path(__file__).resolve().parents[3]
COUNT = 320
IDENTITY = {"name": "fake", "method": "fake", "version": "1"}

# A fast teacher that records which structures it was asked to label; the driver and the workers load it.
FAKE = """
import os, signal, time
from pathlib import Path
import numpy as np
from hydrogate.models.teachers import Labels
from hydrogate.pipeline.stages import label
from hydrogate.pipeline.workers import pool as compute

class Fake:
    dipoles, batch = False, 1

    def identity(self):
        return {"name": "fake", "method": "fake", "version": os.environ.get("FAKE_VERSION", "1")}

    def label(self, structures):
        answers = []
        for atoms in structures:
            row = round(atoms.positions[0, 0])
            with open("asked", "a") as asked:
                asked.write(f"{row}\\n")
            for deadly in (Path(f"once-{row}"), Path(f"always-{row}")):
                if deadly.exists():
                    deadly.unlink() if "once" in deadly.name else None
                    os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.01)
            answers.append(Labels(-0.5 * row - 1, np.full((len(atoms), 3), row / 7.0)))
        return answers

os.chdir("FOLDER")
label.teacher_of = lambda params: Fake()
label.STRUCTURES_PER_CHUNK = (2, 2)
compute.PATIENCE = 300  # a worker that died takes a busy machine long to replace
"""

# Imports once. Then, on request, labels in a child process with the given environment variables and maximum file size,
# or waits for such a child.
DRIVER = """
import json, os, resource, sys
import fake, distributed, h5py
from hydrogate.pipeline.stages import label
from hydrogate.pipeline.program import stage_exit_status

for line in sys.stdin:
    told = json.loads(line)
    if "wait" in told:
        print(os.waitstatus_to_exitcode(os.waitpid(told["wait"], 0)[1]), flush=True)
        continue
    if (pid := os.fork()) == 0:
        with open("said", "w") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        os.environ.update(told["environment"])
        if told["largest_file"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (told["largest_file"], resource.RLIM_INFINITY))
        status = stage_exit_status(label.main)
        sys.stdout.flush()
        os._exit(status)
    print(pid, flush=True)
"""


def mounting() -> list[str] | None:
    """Return the command prefix with which ``mount`` works; None if there is none."""
    for how in ([], ["sudo", "-n"]):
        with tempfile.TemporaryDirectory() as place, suppress(FileNotFoundError):
            if not subprocess.run([*how, "mount", "-t", "tmpfs", "none", place], capture_output=True).returncode:
                subprocess.run([*how, "umount", place], check=True)
                return how
    return None


AS_ROOT = mounting()


class Labelling:
    """Folder with structures to label, workers, and a process that starts the stage on request."""

    def __init__(self, folder: Path, scheduler: str, started: Any) -> None:
        self.folder, self.driver, self.largest_file = folder, started, 0
        rows = range(COUNT)
        atoms = [Atoms("H2", [[row, 0, 0], [row, 0, 0.74 + 0.001 * (row % 50)]]) for row in rows]
        self.data = replace(concatenate(atoms, source=["made"] * COUNT, source_index=list(rows)), n_read=COUNT)
        (folder / "data").mkdir()
        write_dataset(self.data, folder / "data/structures.h5")
        (folder / "data/structures.ok").write_text(f"structures {self.data.fingerprint()}\n")
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        params["compute"]["scheduler"] = scheduler
        (folder / "params.yaml").write_text(yaml.safe_dump(params))

    def _told(self, **what: object) -> int:
        print(json.dumps(what), file=self.driver.stdin, flush=True)
        return int(self.driver.stdout.readline())

    def start(self, **environment: str) -> int:
        return self._told(largest_file=self.largest_file, environment=environment)

    def ended(self, pid: int) -> int:
        return self._told(wait=pid)

    def run(self, **environment: str) -> tuple[int, str]:
        return self.ended(self.start(**environment)), (self.folder / "said").read_text()

    def asked(self) -> list[int]:
        path = self.folder / "asked"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def stored(self) -> set[int]:
        path = self.folder / ".progress/labels.sqlite"
        if not path.exists():
            return set()
        with closing(sqlite3.connect(path)) as connection:
            return {round(-2 * (energy + 1)) for (energy,) in connection.execute("SELECT energy FROM labels")}

    def expected(self, without: int | None = None) -> Dataset:
        rows = np.arange(COUNT)
        forces = np.repeat(rows / 7.0, 2)[:, None] * np.ones(3)
        whole = replace(self.data, energy=-0.5 * rows - 1, forces=forces.astype(np.float32), teacher=IDENTITY)
        return whole if without is None else whole.subset(np.delete(rows, without))

    def assert_as_if_undisturbed(self) -> None:
        write_dataset(self.expected(), self.folder / "whole.h5")
        assert (self.folder / "data/labelled.h5").read_bytes() == (self.folder / "whole.h5").read_bytes()
        assert not list((self.folder / "data").glob(".*")), "remains of a killed run"


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, Any]]:
    """Folder, scheduler address of two workers with the fake teacher, and the process that starts the stage."""
    folder = tmp_path_factory.mktemp("fake")
    (folder / "fake.py").write_text(FAKE.replace("FOLDER", str(folder)))
    (folder / "driver.py").write_text(DRIVER)
    with (
        # One death is enough to suspect a chunk.
        dask.config.set({"distributed.scheduler.allowed-failures": 0, "logging.distributed": "critical"}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            preload=str(folder / "fake.py"),
        ) as cluster,
    ):
        started = subprocess.Popen(
            [sys.executable, "driver.py"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        yield folder, cluster.scheduler_address, started
        started.communicate()


@pytest.fixture
def labelling(workers: tuple[Path, str, Any]) -> Labelling:
    folder = workers[0]
    for remains in ("data", ".progress"):
        shutil.rmtree(folder / remains, ignore_errors=True)
    (folder / "asked").unlink(missing_ok=True)
    return Labelling(*workers)


def test_killed_at_20_random_moments_nothing_is_lost_and_nothing_asked_twice(labelling: Labelling) -> None:
    random_ = random.Random(0)
    seen: list[int] = []
    killed = 0
    for _ in range(20):
        before, asked = labelling.stored(), len(labelling.asked())
        pid = labelling.start()
        # Kill after a random number of further labels (half of the time one more is stored) and some milliseconds: with
        # a fixed time a slow machine would make no progress.
        wanted, deadline = min(asked + random_.randrange(16), COUNT), time.monotonic() + 60
        least = len(before) + (random_.random() < 0.5 and len(before) < COUNT)
        while len(labelling.asked()) < wanted or len(labelling.stored()) < least:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(random_.uniform(0, 0.03))
        with suppress(ProcessLookupError):  # already finished on a fast machine
            os.kill(pid, signal.SIGKILL)
        status = labelling.ended(pid)
        assert status in (0, -signal.SIGKILL)
        killed += status != 0
        assert not before & set(labelling.asked()[asked:]), "asked again"
        assert before <= labelling.stored(), "lost"
        seen.append(len(labelling.stored()))
    assert killed > 10
    assert len({count for count in seen if 0 < count < COUNT}) > 5, seen
    before, asked = labelling.stored(), len(labelling.asked())
    assert labelling.run()[0] == 0
    assert not before & set(labelling.asked()[asked:])
    labelling.assert_as_if_undisturbed()


def test_killed_while_it_writes_its_output(labelling: Labelling) -> None:
    assert labelling.run()[0] == 0
    asked = len(labelling.asked())
    output = labelling.folder / "data/labelled.h5"
    written = output.read_bytes()
    # A killed process leaves half a file under another name.
    half = output.with_name(f".{output.name}.4711.tmp")
    half.write_bytes(written[: len(written) // 2])
    output.unlink()
    assert labelling.run()[0] == 0
    labelling.assert_as_if_undisturbed()
    assert len(labelling.asked()) == asked == COUNT


@contextmanager
def short_of_room(labelling: Labelling, name: str, room: int, disk: str) -> Iterator[None]:
    """Limit the folder ``name`` to ``room`` more bytes: per file, or for all files on a small file system."""
    if disk == "largest file":
        labelling.largest_file = room
        yield
        labelling.largest_file = 0
        return
    folder, kept = labelling.folder / name, labelling.folder / f"{name}.kept"
    folder.mkdir(exist_ok=True)
    shutil.copytree(folder, kept)
    size = room + sum(-(-path.stat().st_size // 4096) * 4096 for path in kept.iterdir())
    subprocess.run([*AS_ROOT, "mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "none", folder], check=True)
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        yield
        shutil.copytree(folder, kept, dirs_exist_ok=True)
    finally:
        subprocess.run([*AS_ROOT, "umount", folder], check=True)
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    shutil.rmtree(kept)


@pytest.mark.parametrize("disk", ["largest file", *(["small tmpfs"] if AS_ROOT is not None else [])])
def test_a_full_disk_is_said_and_costs_nothing(labelling: Labelling, disk: str) -> None:
    with short_of_room(labelling, ".progress", 40_000, disk):
        status, said = labelling.run()
    assert status == 2, said
    assert "labels.sqlite: " in said
    assert "kept; free disk space" in said
    kept = labelling.stored()
    assert 0 < len(kept) < COUNT
    asked = len(labelling.asked())
    assert labelling.run()[0] == 0
    assert not kept & set(labelling.asked()[asked:])
    labelling.assert_as_if_undisturbed()
    # No space for the output: the old file stays unchanged.
    output = labelling.folder / "data/labelled.h5"
    written, asked = output.read_bytes(), len(labelling.asked())
    with short_of_room(labelling, "data", 20_000, disk):
        status, said = labelling.run()
    assert status == 2, said
    assert "data/labelled.h5: " in said
    assert "the labels are kept: free disk space" in said
    assert output.read_bytes() == written
    assert labelling.run()[0] == 0
    labelling.assert_as_if_undisturbed()
    assert len(labelling.asked()) == asked


def test_a_second_process_is_refused_and_does_not_disturb_the_first(labelling: Labelling) -> None:
    pid = labelling.start()
    while not labelling.asked():
        time.sleep(0.001)
    os.kill(pid, signal.SIGSTOP)
    status, said = labelling.run()
    assert status == 2
    assert "another process is already running 'label'" in said
    os.kill(pid, signal.SIGCONT)
    assert labelling.ended(pid) == 0
    labelling.assert_as_if_undisturbed()


def test_a_worker_that_dies_costs_what_had_not_arrived(labelling: Labelling) -> None:
    for row in (100, 201):
        (labelling.folder / f"once-{row}").touch()
    pid = labelling.start()
    seen: list[tuple[set[int], int]] = []
    while len(labelling.asked()) < COUNT:
        seen.append((labelling.stored(), len(labelling.asked())))
        time.sleep(0.1)
    assert labelling.ended(pid) == 0, (labelling.folder / "said").read_text()
    labelling.assert_as_if_undisturbed()
    asked = labelling.asked()
    assert len(asked) > COUNT
    for stored, count in seen:
        assert not stored & set(asked[count:]), "asked again"


def test_a_structure_that_kills_its_workers_is_set_aside_and_tried_again_the_next_time(labelling: Labelling) -> None:
    deadly = labelling.folder / "always-31"
    deadly.touch()
    status, said = labelling.run()
    assert status == 0, said
    result = read_dataset(labelling.folder / "data/labelled.h5")
    (record,) = result.quarantine
    assert (record.source_index, "died" in record.reason) == (31, True)
    np.testing.assert_array_equal(result.forces, labelling.expected(without=31).forces)
    deadly.unlink()
    asked = len(labelling.asked())
    status, said = labelling.run()
    assert status == 0, said
    assert labelling.asked()[asked:] == [31]
    labelling.assert_as_if_undisturbed()


def test_a_worker_with_another_version_of_the_teacher_is_named(labelling: Labelling) -> None:
    status, said = labelling.run(FAKE_VERSION="2")
    assert status == 2, said
    assert "worker tcp://127.0.0.1" in said
    assert "version '1' instead of '2'; install the same" in said
    assert labelling.asked() == []
