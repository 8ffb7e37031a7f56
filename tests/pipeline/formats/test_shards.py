"""Shards checked one at a time, in one process and on Dask workers: same findings as for the complete data set."""

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster

from hydrogate.checks import Dataset, Report, UnreadableData, check
from hydrogate.checks.errors import BadParams
from hydrogate.pipeline.formats import read_all
from hydrogate.pipeline.formats.shards import parts_of
from hydrogate.pipeline.storage.hdf5 import write_dataset
from hydrogate.pipeline.workers import pool as compute
from hydrogate.pipeline.workers.dask_parts import cluster


def tiled(data: Dataset, copies: int, seed: int = 0) -> Dataset:
    """Concatenate ``copies`` of ``data``, each slightly different."""
    shifts = np.random.default_rng(seed).normal(0.0, 1e-4, copies).repeat(len(data))
    every = data.subset(np.tile(np.arange(len(data)), copies))
    parent = np.tile(data.parent, copies) + np.arange(copies).repeat(len(data)) * len(data)
    return replace(every, energy=every.energy + shifts, parent=parent, n_read=0)


def write_shards(data: Dataset, folder: Path, count: int) -> list[Path]:
    ends = np.linspace(0, len(data) // 3, count + 1).astype(int) * 3  # families of three
    paths = [folder / f"shard-{index:02d}.h5" for index in range(count)]
    for path, start, stop in zip(paths, ends[:-1], ends[1:], strict=True):
        write_dataset(data.part(start, stop), path)
    return paths


def same(one: Report, other: Report) -> None:
    assert other.summary == one.summary
    for finding, again in zip(one.findings, other.findings, strict=True):
        assert dict(again.observed) == pytest.approx(dict(finding.observed), rel=1e-9, abs=1e-12)
        assert replace(again, observed=finding.observed) == finding


@pytest.fixture
def spoiled(labelled: Dataset) -> Dataset:
    """Return the data set with one structure in each third that fails the contract."""
    forces = labelled.forces.copy()
    for row in (5, 40, 100):
        forces[labelled.atoms_of(row)] *= np.float32(30)
    return replace(labelled, forces=forces, n_read=0)


@pytest.mark.parametrize("contract", ["structures", "labels"])
def test_shards_are_judged_as_one_data_set(contract: str, spoiled: Dataset, tmp_path: Path) -> None:
    paths = write_shards(spoiled, tmp_path, 3)
    report = check(parts_of(paths), contract)
    same(check(read_all(paths), contract), report)
    if contract == "labels":
        finding = next(f for f in report.findings if f.check == "force_rms_per_structure")
        assert {text.partition(" (")[0] for text in finding.examples} == {
            "structure 5",
            "structure 40",
            "structure 100",
        }
    assert parts_of(paths[:1]).fingerprint() == spoiled.part(0, 36).fingerprint()
    assert report.fingerprint != parts_of(paths[::-1]).fingerprint()


def test_files_of_other_formats_are_shards_too(few: Dataset, written, tmp_path: Path) -> None:
    paths = []
    for index in range(3):
        path = written(few.subset(range(4 * index, 4 * index + 4)), ".extxyz")
        paths.append(path.rename(tmp_path / f"part{index}.extxyz"))
    same(check(read_all(paths), "labels"), check(parts_of(paths), "labels"))


def test_shards_of_two_kinds_are_refused(spoiled: Dataset, tmp_path: Path) -> None:
    paths = write_shards(spoiled, tmp_path, 2)
    write_dataset(replace(spoiled.part(54, 108), energy=None, forces=None), paths[1])
    with pytest.raises(UnreadableData, match="no energy in"):
        parts_of(paths)


def peak_of(paths: list[Path]) -> int:
    """Return the peak memory in bytes during the check of ``paths``."""
    # The sample of labels reaches its full size after a few structures.
    sample = [("test", {"labels": {"constant_labels": {"atoms": 5000}}})]
    tracemalloc.start()
    check(parts_of(paths), "labels", overrides=sample)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_memory_grows_neither_with_the_shards_nor_with_what_fails(
    labelled: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # the peaks of two concurrent parts may or may not coincide
    large = tiled(labelled, 10)
    for name, data in {"clean": large, "failing": replace(large, forces=large.forces * np.float32(-30))}.items():
        (tmp_path / name).mkdir()
        for index in range(10):
            write_dataset(replace(data, energy=data.energy + 1e-6 * index), tmp_path / name / f"{index}.h5")
    files = {name: sorted((tmp_path / name).iterdir()) for name in ("clean", "failing")}
    peak_of(files["clean"][:1])  # warm-up: imports and compilation happen only once
    two, ten = peak_of(files["clean"][:2]), peak_of(files["clean"])
    assert ten < 1.6 * two  # all in memory at once would need five times as much
    assert peak_of(files["failing"]) < 1.3 * ten


@pytest.fixture(scope="module")
def local() -> Iterator[str]:
    """Start a scheduler and two worker processes."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", host="127.0.0.1"
    ) as workers:
        yield workers.scheduler_address


@pytest.mark.parametrize("contract", ["structures", "labels"])
def test_a_cluster_finds_what_one_process_finds(contract: str, local: str, spoiled: Dataset, tmp_path: Path) -> None:
    paths = write_shards(spoiled, tmp_path, 10)
    with cluster(local) as gather:
        same(check(parts_of(paths), contract), check(parts_of(paths, gather=gather), contract))


def test_a_shard_that_a_worker_cannot_read_is_named_with_the_worker(
    local: str, spoiled: Dataset, tmp_path: Path
) -> None:
    paths = write_shards(spoiled, tmp_path, 2)
    with cluster(local) as gather:
        parts = parts_of(paths, gather=gather)
        paths[1].unlink()
        with pytest.raises(UnreadableData, match=r"shard-01\.h5: no such file \(worker tcp://127"):
            check(parts, "labels")


def test_an_address_where_nobody_answers_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "PATIENCE", 1)
    with (
        pytest.raises(BadParams, match=r"--scheduler tcp://127\.0\.0\.1:9: no Dask scheduler responds"),
        cluster("tcp://127.0.0.1:9"),
    ):
        pass


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_worker_killed_half_way_loses_nothing(spoiled: Dataset, tmp_path: Path) -> None:
    paths = write_shards(spoiled, tmp_path, 18)
    expected = check(parts_of(paths), "labels")
    file = tmp_path / "scheduler.json"
    common = ("--scheduler-file", str(file), "--no-dashboard")
    one_worker = ("distributed.cli.dask_worker", *common, "--no-nanny", "--nthreads", "1")
    with started("distributed.cli.dask_scheduler", *common, "--host", "127.0.0.1", "--port", "0"):
        while not file.exists():
            time.sleep(0.05)
        with started(*one_worker, "--name", "one"), started(*one_worker, "--name", "two") as killed:
            address = json.loads(file.read_text())["address"]
            with Client(address, set_as_default=False) as watching:
                watching.wait_for_workers(2, timeout=60)
                command = ["-c", "from hydrogate.pipeline.cli import main; main()", "check", *map(str, paths)]
                judging = subprocess.Popen(
                    [sys.executable, *command, "--contract", "labels", "--scheduler", address, "--format", "json"],
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=tmp_path,
                )
                workers = watching.scheduler_info()["workers"]
                (doomed,) = [worker for worker, about in workers.items() if about["name"] == "two"]
                while not watching.has_what()[doomed]:  # until it holds answers that no other worker has
                    time.sleep(0.02)
                os.kill(killed.pid, signal.SIGKILL)
                out, _ = judging.communicate(timeout=120)
                assert list(watching.scheduler_info()["workers"]) != list(workers)
    assert judging.returncode == 1
    same(expected, Report.from_dict(json.loads(out)))
