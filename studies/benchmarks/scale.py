"""Benchmark of the label stage's overhead per structure, extrapolated to data sets of any size.

``nox -s benchmarks -- scale [quick]`` prints two tables and writes ``reports/benchmark-scale.json``. The structures
are those of ``data/structures.h5``, repeated and slightly shifted so that no two are equal (S22 dimers if that file
does not exist). Costs are slopes between two sizes, so that start-up time does not count; CPU-seconds of one process.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from hydrogate.checks.data.dataset import Dataset
from hydrogate.models.names import words
from hydrogate.models.teachers import make_teacher
from hydrogate.pipeline.outputs import write_json
from hydrogate.pipeline.params import Compute, Label
from hydrogate.pipeline.program import stage_exit_status
from hydrogate.pipeline.stages import label
from hydrogate.pipeline.storage.hdf5 import read_dataset, write_dataset
from hydrogate.pipeline.storage.resume import LabelStore, Stored
from hydrogate.pipeline.workers.pool import connected, over_workers
from studies.benchmarks import labelling as bench_labelling

REPORT = Path("reports/benchmark-scale.json")
TRAINING = Path("metrics/training.json")
BATCH = 8  # train.batch_size of the committed metrics
PARAMS = Label.model_validate({**bench_labelling.PARAMS, "workers": 1})
DATA_SETS = (4_883, 1_000_000, 100_000_000)
KIB = 1024 if sys.platform.startswith("linux") else 1  # bytes per unit of ru_maxrss in getrusage


def many(count: int) -> Dataset:
    """Return ``count`` unlabelled structures, no two of them equal."""
    few = bench_labelling.structures(2800)
    data = few.subset(np.arange(count) % len(few))
    shift = np.repeat(np.arange(count, dtype=np.float32) / 1000.0, data.sizes)
    return replace(data, positions=data.positions + shift[:, None])


def answer(atoms: Atoms) -> Stored:
    """Return a label of the same size as one from xTB."""
    forces, charges = np.zeros((len(atoms), 3), np.float32), np.zeros(len(atoms), np.float32)
    return Stored(0.0, forces, "", np.zeros(3), charges)


def _answered(jobs: Sequence[label.Job]) -> list[label.Answer]:
    return [label.Answer(job.key, answer(job.atoms)) for job in jobs]


def passing(data: Dataset, chunks: int) -> dict[str, float]:
    """Measure CPU time (ms) of driver and scheduler per chunk, here ``data``, and memory (MB) added by ``chunks``."""
    chunk = [label.Job(data.structure_fingerprint(row), data.to_atoms(row)) for row in range(len(data))]
    with connected(Compute(), 1, tasks=1) as client:

        def send(count: int) -> None:
            for _ in over_workers(client, _answered, repeat(chunk, count)):
                pass

        send(100)
        start, before = time.process_time(), client.run_on_scheduler(_memory)
        send(chunks)
        spent, after = time.process_time() - start, client.run_on_scheduler(_memory)
    return {"CPU, ms": 1e3 * spent / chunks, "memory, MB": (after - before) / 1e6}


def _memory(dask_scheduler: Any) -> float:
    """Return the memory in bytes of the scheduler's process, which is also the driver's."""
    return float(dask_scheduler.monitor.update()["memory"])


def stored(data: Dataset, folder: Path) -> dict[str, float]:
    """Measure CPU time (ms) and bytes per structure of the stored files; they stay in ``folder``."""
    found = [(data.structure_fingerprint(row), answer(data.to_atoms(row))) for row in range(len(data))]
    path, identity = folder / "labels.sqlite", make_teacher("xtb").identity()
    times = [time.process_time()]
    with LabelStore(path, identity) as store:
        for start in range(0, len(found), 64):
            store.add(found[start : start + 64])
    times.append(time.process_time())
    with LabelStore(path, identity):
        times.append(time.process_time())
    write_dataset(data, folder / "structures.h5")
    storing, verifying = 1e3 * np.diff(times) / len(data)
    return {
        "storing, ms": storing,
        "verifying the store, ms": verifying,
        "labels.sqlite, bytes": path.stat().st_size / len(data),
        "structures.h5, bytes": (folder / "structures.h5").stat().st_size / len(data),
    }


def stage(folder: Path) -> dict[str, float]:
    """Run the stage in ``folder`` with all labels stored; return this process's CPU-seconds and peak memory (bytes)."""
    data = read_dataset(folder / "structures.h5")
    write_dataset(label.run(data, PARAMS, folder), folder / "labelled.h5")
    return {"cpu": time.process_time(), "memory": KIB * float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)}


def _in_its_own_process(folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "studies.benchmarks.scale", "stage", str(folder)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(said.stdout.splitlines()[-1]))


def bench(count: int, chunks: int) -> dict[str, float]:
    """Run all measurements and return them by name."""
    figures: dict[str, float] = {}
    ran = []
    for size in (count // 4, count):
        with tempfile.TemporaryDirectory() as name:
            figures |= stored(many(size), Path(name))
            ran.append(_in_its_own_process(Path(name)))
            figures["labelled.h5, bytes"] = (Path(name) / "labelled.h5").stat().st_size / size
    apart = count - count // 4
    figures["stage without labelling, ms"] = 1e3 * (ran[1]["cpu"] - ran[0]["cpu"]) / apart
    figures["memory of the stage, bytes"] = (ran[1]["memory"] - ran[0]["memory"]) / apart
    figures["memory of the stage, MB before any"] = (
        ran[1]["memory"] - count * figures["memory of the stage, bytes"]
    ) / 1e6
    for size, sent in zip(label.STRUCTURES_PER_CHUNK, (chunks, chunks // 10), strict=True):
        passed = passing(many(size), sent)
        figures[f"driver and scheduler, ms a chunk of {size}"] = passed["CPU, ms"]
        figures[f"memory of {sent} chunks of {size}, MB"] = passed["memory, MB"]
    few, more = (bench_labelling.measured("1", number) for number in (bench_labelling.FEW, 100))
    figures["labelling by one process, ms"] = 1e3 * (more.cpu - few.cpu) / (100 - bench_labelling.FEW)
    if TRAINING.exists():
        trained = json.loads(TRAINING.read_text("utf-8"))
        figures["training, ms an epoch"] = 1e3 * trained["cpu_seconds"] / (trained["steps"] * BATCH)
    return figures


def needs(figures: Mapping[str, float]) -> dict[str, list[float]]:
    """Extrapolate the measurements to each of ``DATA_SETS``: cost per structure times number of structures."""
    found: dict[str, list[float]] = {}
    for count in DATA_SETS:
        size = label.chunk_size(count)
        each = {
            "labelling, core-hours": count * figures["labelling by one process, ms"] / 3.6e6,
            "driver and scheduler, CPU-s": count / size * figures[f"driver and scheduler, ms a chunk of {size}"] / 1e3,
            "stage without labelling, CPU-s": count * figures["stage without labelling, ms"] / 1e3,
            "verifying the store, CPU-s": count * figures["verifying the store, ms"] / 1e3,
            **{
                f"{name}, GB": count * figures[f"{name}, bytes"] / 1e9
                for name in ("labels.sqlite", "structures.h5", "labelled.h5")
            },
            "memory of the stage, GB": (
                figures["memory of the stage, MB before any"] / 1e3
                + count * figures["memory of the stage, bytes"] / 1e9
            ),
        }
        if "training, ms an epoch" in figures:
            each["an epoch, core-hours"] = count * figures["training, ms an epoch"] / 3.6e6
        for name, value in each.items():
            found.setdefault(name, []).append(value)
    return found


def _print(figures: Mapping[str, float]) -> None:
    from rich.console import Console
    from rich.table import Table

    measured, needed = Table("per structure", "measured"), Table("per data set", *(f"{count:,}" for count in DATA_SETS))
    for name, value in figures.items():
        measured.add_row(name, f"{value:.4g}")
    for name, values in needs(figures).items():
        needed.add_row(name, *(f"{value:.3g}" for value in values))
    for table in (measured, needed):
        Console().print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the report; exits 0 for any result."""
    given = sys.argv[1:] if argv is None else argv
    if given and given[0] == "stage":
        print(json.dumps(stage(Path(given[1]))))
        return 0
    quick = "quick" in words(given, ("quick",))
    os.environ["OMP_NUM_THREADS"] = "1"
    figures = bench(12_000, 500) if quick else bench(60_000, 10_000)
    _print(figures)
    write_json(REPORT, {"measured": figures, "needs": needs(figures)})
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
