"""Benchmark for two gates: speedup of the trained student over its teacher, and of its kernels over plain torch.

``python -m studies.benchmarks.student [quick]`` writes ``metrics/benchmarks.json``, which is tracked by git and
identifies the student; ``quick`` only prints. Contestants run once per round, in turn, on the same structures of split
``test``: on a GPU (wall-clock seconds), otherwise with one thread (CPU-seconds). The interval of a ratio is that of its
median over the rounds.
"""

import copy
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.metrics.bootstrap import LEVEL, Metric
from hydrogate.models.names import words
from hydrogate.pipeline.decision.benchmark_identity import NO_CUDA, identity
from hydrogate.pipeline.outputs import write_json
from hydrogate.pipeline.params import Label, Params, load_params
from hydrogate.pipeline.program import stage_exit_status
from hydrogate.pipeline.storage.hdf5 import read_dataset

if TYPE_CHECKING:
    from hydrogate.models.teachers import Teacher

LABELLED, STUDENT, METRICS = Path("data/labelled.h5"), Path("data/student.safetensors"), Path("metrics/benchmarks.json")
BATCH, ROUNDS = 32, 9
AT_LEAST = 0.3  # seconds of a contestant's turn

Contestants = Mapping[str, Callable[[], object]]


def run(params: Params, data: Dataset, path: Path, batch: int, rounds: int) -> dict[str, Any]:
    """Measure the student in the file ``path``; return the content of ``metrics/benchmarks.json``.

    Raises
    ------
    ValueError
        The file does not have the student of ``params``, or the teacher fails for a structure.
    """
    import torch

    from hydrogate.models.student_file import file_fingerprint, load_student

    device = "cuda" if torch.cuda.is_available() else "cpu"
    student = load_student(path)
    if student.name != params.train.student:
        raise ValueError(f"{path} is a {student.name}, but train.student is {params.train.student}; run the pipeline")
    drawn = np.random.default_rng(0).permutation(np.flatnonzero(data.split == "test"))[:batch]
    structures = [data.to_atoms(row) for row in drawn.tolist()]
    with tempfile.TemporaryDirectory() as folder:
        runs = contestants(student.to(device), structures, teacher_of(params.label, Path(folder)))
        spent = interleaved(runs, rounds, device)
    kernels = speedup(spent["plain torch"], spent["kernels"])
    return {
        **identity(params, file_fingerprint(path)),
        "student": student.name,
        "device": "cpu" if device == "cpu" else f"cuda: {torch.cuda.get_device_name()}",
        "torch": torch.__version__,
        "batch": len(structures),
        "rounds": rounds,
        "speedup_over_teacher": speedup(spent["teacher"], spent["predict"]).to_dict(),
        "kernel_speedup": kernels.to_dict() if device == "cuda" else f"not_run: {NO_CUDA}",
        **({"kernel_speedup_cpu": kernels.to_dict()} if device == "cpu" else {}),
    }


def teacher_of(label: Label, folder: Path) -> "Teacher":
    """Return the teacher of ``label``; Orb gets random weights, which take the same time, if its own are missing."""
    from hydrogate.models.teachers import make_teacher, orb

    try:
        return make_teacher(label.teacher, label.method, label.weights, label.settings)
    except FileNotFoundError:
        if label.teacher != "orb":
            raise
    weights = orb.save_random_weights(label.method, folder)
    print(
        f"teacher orb: weights not found; random weights take the same time ({weights.stem})",
        file=sys.stderr,
    )
    return make_teacher(label.teacher, label.method, weights, label.settings)


def contestants(student: Any, structures: Sequence[Atoms], teacher: "Teacher") -> Contestants:
    """Return the contestants: teacher and student from structures to results; two kernel variants on one batch."""
    from hydrogate.models.kernels import in_plain_torch
    from hydrogate.models.potential import energy_and_forces, predict
    from hydrogate.models.teachers import Failure

    constant = copy.deepcopy(student).requires_grad_(False)
    weights = next(constant.parameters())
    batch = constant.collate(structures, weights.dtype).to(weights.device, weights.dtype)

    def plain() -> None:
        with in_plain_torch():
            energy_and_forces(constant, batch)

    def label() -> None:
        failed = [answer.reason for answer in teacher.label(structures) if isinstance(answer, Failure)]
        if failed:
            raise ValueError(f"the teacher fails for {len(failed)} of {len(structures)} structures: {failed[0]}")

    return {
        "teacher": label,
        "predict": lambda: predict(student, structures, batch_size=len(structures)),
        "kernels": lambda: energy_and_forces(constant, batch),
        "plain torch": plain,
    }


def interleaved(runs: Contestants, rounds: int, device: str) -> dict[str, list[float]]:
    """Return seconds per run of each contestant in each round, interleaved; one thread on a CPU."""
    import torch

    from hydrogate.models.threads import one_thread

    def seconds(work: Callable[[], object], count: int) -> float:
        clock = time.process_time if device == "cpu" else time.perf_counter
        start = clock()
        for _ in range(count):
            work()
        if device == "cuda":
            torch.cuda.synchronize()
        return (clock() - start) / count

    with one_thread():
        counts = {}
        for name, work in runs.items():
            work()  # compilation and caching at first use are not measured
            counts[name] = math.ceil(AT_LEAST / max(seconds(work, 1), AT_LEAST / 1000))
        spent: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, work in runs.items():
                spent[name].append(seconds(work, counts[name]))
    return spent


def speedup(slow: Sequence[float], fast: Sequence[float]) -> Metric:
    """Return the median of the ratios over the rounds, with a rank-based interval; no interval below six rounds."""
    from scipy.stats import quantile_test

    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.asarray(slow) / np.asarray(fast)
    if not len(ratios) or not np.isfinite(ratios).all():
        return Metric(None, "times", len(ratios))
    low, high = quantile_test(ratios, p=0.5).confidence_interval(LEVEL)
    ends = (None, None) if np.isnan(low) or np.isnan(high) else (float(low), float(high))
    return Metric(float(np.median(ratios)), "times", len(ratios), *ends)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the metrics; without a trained student, print that it is not run and exit 0."""
    quick = "quick" in words(argv, ("quick",))
    if not (STUDENT.exists() and LABELLED.exists()):
        print(f"the trained student: not_run: no {STUDENT}; create it with `python3 -m nox -s repro`")
        return 0
    content = run(load_params(), read_dataset(LABELLED), STUDENT, *((8, 2) if quick else (BATCH, ROUNDS)))
    print(f"{content['student']}, {content['device']}, batch {content['batch']}, {content['rounds']} rounds")
    for name in ("speedup_over_teacher", "kernel_speedup", "kernel_speedup_cpu"):
        if name in content:
            figure = content[name]
            print(f"{name}: {figure if isinstance(figure, str) else Metric.from_dict(figure)}")
    if not quick:
        write_json(METRICS, content)
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
