"""Benchmark of kernels and students: speed ratios from interleaved rounds, in which every contestant runs once.

``python -m studies.benchmarks.kernels [quick] [compiled]`` prints a table and writes ``reports/benchmarks.json`` and
``reports/benchmarks.png``. The ratio of a contestant to its baseline is taken within each round, so that a slowdown of
the machine affects both. The baseline is the eager implementation of a kernel, or a student with eager kernels.
``compiled`` adds the compiled training step, which takes a minute to build.
"""

import copy
import functools
import itertools
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from ase import Atoms
from ase.data.s22 import create_s22_system, s22
from torch import Tensor

from hydrogate.models import kernels
from hydrogate.models.batch import Batch
from hydrogate.models.compiled import CompiledRefused, verified_energy_and_forces
from hydrogate.models.names import UnknownName, words
from hydrogate.models.potential import EnergyAndForces, Prediction, Student, Support, energy_and_forces
from hydrogate.models.students import make_student, student_names
from studies.benchmarks.measure import ceilings, seconds

Contestants = dict[str, Callable[[], object]]


class Row(NamedTuple):
    """A measurement: atoms per second (per CPU-second with one thread), median over the rounds, and the ratio to the
    baseline with its extremes.

    Parameters
    ----------
    group : str
        Description of the run: student or kernel, device, threads, batch, inference or training.
    name : str
        Name of the contestant; the first of a group is its baseline.
    atoms_per_second : float
    ratio, least, greatest : float
        Speed divided by the baseline's in the same round: median, minimum and maximum.
    ceiling : float, optional
        Fraction of the roofline limit, from the peak throughput measured in the same run; see `roofline`.
    peak_mib : float, optional
        Peak memory allocated by torch on the device, above the level before the run.
    """

    group: str
    name: str
    atoms_per_second: float
    ratio: float
    least: float
    greatest: float
    ceiling: float | None = None
    peak_mib: float | None = None


def structures(count: int) -> list[Atoms]:
    """Return ``count`` molecules and dimers of 12 to 30 atoms from ASE's S22 set."""
    systems: list[Atoms] = [
        create_s22_system(name)  # type: ignore[no-untyped-call]  # ASE has no types here
        for name in s22
    ]
    large = [atoms for atoms in systems if 12 <= len(atoms) <= 30]
    return [large[k % len(large)] for k in range(count)]


def interleaved(
    group: str, contestants: Contestants, atoms: dict[str, int], rounds: int, most: float | None = None
) -> list[Row]:
    """Run each contestant once per round; the first is the baseline. ``most``: roofline limit in runs per second."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    peaks = {name: peak_mib(run) for name, run in contestants.items()}
    for _ in range(rounds):
        for name, run in contestants.items():
            speeds[name].append(atoms[name] / seconds(run))
    baseline = speeds[next(iter(contestants))]
    rows = []
    for name, of in speeds.items():
        ratios = [own / base for own, base in zip(of, baseline, strict=True)]
        speed = statistics.median(of)
        ceiling = speed / atoms[name] / most if most else None
        rows.append(Row(group, name, speed, statistics.median(ratios), min(ratios), max(ratios), ceiling, peaks[name]))
    return rows


def peak_mib(run: Callable[[], object]) -> float:
    """Return the peak memory of ``run`` in MiB: from CUDA's statistics, or from torch's profiler on a CPU.

    The first call, which builds and caches, is not measured.
    """
    run()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    changes: list[int] = [
        event.nbytes() for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    return max(itertools.accumulate(changes), default=0) / 2**20


def roofline(run: Callable[[], object], limits: dict[str, float], tensors: Sequence[Tensor] = ()) -> float:
    """Return the limit in runs per second, from the matrix products of ``run`` and one pass over ``tensors``.

    ``run`` is the baseline. Faster implementations may avoid some of its products, and caches are faster than memory,
    so that a fraction of this limit can exceed one.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    products, moved = counter.get_total_flops(), sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    slowest: float = max(products / limits["GF/s"], moved / limits["GB/s"]) / 1e9
    return 1.0 / slowest


def _inference(function: EnergyAndForces, batch: Batch) -> Callable[[], object]:
    return lambda: function(batch)


def _training(student: Student, function: EnergyAndForces, batch: Batch) -> Callable[[], object]:
    def step() -> None:
        energy, forces, _ = function(batch)
        loss = (forces * forces).sum() + energy.sum()
        torch.autograd.grad(loss, list(student.parameters()), allow_unused=True)

    return step


def bench_student(
    name: str, batch_size: int, rounds: int, device: str, compiled: bool, limits: dict[str, float]
) -> list[Row]:
    """Measure a student with eager kernels, with the fastest kernels and compiled: inference and training."""
    some = structures(batch_size)
    student = make_student(name, {}, Support.of(some)).to(device)
    batch = student.collate(some).to(device, torch.float32)
    constant = copy.deepcopy(student).requires_grad_(False)

    def graphed(given: Batch) -> Prediction:
        return energy_and_forces(student, given, create_graph=True)

    def plain(given: Batch) -> Prediction:
        return energy_and_forces(constant, given)

    def slow(run: Callable[[], object]) -> Callable[[], object]:
        def without() -> None:
            with kernels.in_plain_torch():
                run()

        return without

    runs = {"inference": _inference(plain, batch), "training": _training(student, graphed, batch)}
    contests: dict[str, Contestants] = {what: {"eager": slow(run), "kernels": run} for what, run in runs.items()}
    if compiled and batch_size > 1:
        try:
            function = verified_energy_and_forces(student, batch)
            contests["inference"]["compiled"] = _inference(function, batch)
            contests["training"]["compiled"] = _training(student, function, batch)
        except CompiledRefused as refusal:
            print(f"{name}: {refusal}")
    label = f"{name}, {_where(device)}, batch {batch_size}"
    rows = []
    for what, contestants in contests.items():
        atoms = dict.fromkeys(contestants, sum(map(len, some)))
        rows += interleaved(f"{label}, {what}", contestants, atoms, rounds, roofline(contestants["eager"], limits))
    return rows


def bench_kernel(
    name: str, batch_size: int, rounds: int, device: str, compiled: bool, limits: dict[str, float]
) -> tuple[list[Row], list[str]]:
    """Measure all implementations of a kernel, forward and with both derivatives; also return those not available."""
    given, atoms = _arguments(name, batch_size, device)
    leaves = [tensor for tensor in given if isinstance(tensor, Tensor) and tensor.requires_grad]
    forward: Contestants = {}
    both: Contestants = {}
    absent = []

    def twice(kernel: kernels.Kernel) -> None:
        found = kernel(*given)
        loss = _sum_of_squares(found if isinstance(found, tuple) else (found,))
        gradients = torch.autograd.grad(loss, leaves, create_graph=True)
        torch.autograd.grad(_sum_of_squares(gradients), leaves)

    for how in kernels.kernel_module(name).IMPLEMENTATIONS:
        # A compiled kernel cannot be differentiated twice.
        if (how, device) == ("cpp", "cuda") or (how == "compiled" and not compiled):
            continue
        try:
            kernel = kernels.implementation(name, how)
        except kernels.NotAvailable as reason:
            absent.append(f"kernel {name}, {how}, {device}: not_run: {reason}")
            continue
        forward[how] = functools.partial(kernel, *given)
        if how != "compiled":
            both[how] = functools.partial(twice, kernel)
    label = f"kernel {name}, {_where(device)}, batch {batch_size}"
    made = kernels.kernel_module(name).reference(*given)
    tensors = [one for one in (*given, *(made if isinstance(made, tuple) else (made,))) if isinstance(one, Tensor)]
    most = roofline(forward["eager"], limits, tensors)
    rows = interleaved(f"{label}, forward", forward, dict.fromkeys(forward, atoms), rounds, most)
    return rows + interleaved(f"{label}, both derivatives", both, dict.fromkeys(both, atoms), rounds), absent


def _sum_of_squares(tensors: Sequence[Tensor]) -> Tensor:
    return cast(Tensor, sum((one * one).sum() for one in tensors))


def _where(device: str) -> str:
    threads = torch.get_num_threads()
    return f"{device}, {threads} thread{'s' * (threads > 1)}"


def _arguments(name: str, batch_size: int, device: str) -> tuple[list[Any], int]:
    """Return arguments of kernel ``name`` at default student sizes on the edges of a batch, and the atom count."""
    some = structures(batch_size)
    student = make_student("so3lr" if name == "attention" else "painn", {}, Support.of(some))
    edges = student.collate(some).edge_index.to(device)
    n, e, f = sum(map(len, some)), edges.shape[1], student.size.features

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device).requires_grad_()

    distance = (1.0 + 4.0 * torch.rand(e, 1, device=device)).requires_grad_()
    if name == "message":
        return [numbers(n, 3 * f), numbers(e, 3 * f), numbers(e, 3), numbers(n, 3, f), edges], n
    if name == "exchange":
        pairs, k = edges[:, edges[0] < edges[1]], student.size.radial + 1
        on_pairs = [numbers(pairs.shape[1], k), numbers(3 * f, k), numbers(pairs.shape[1], 3)]
        return [numbers(n, 3 * f), *on_pairs, numbers(n, 3, f), pairs], n
    if name == "invariants":
        return [numbers(n, f), numbers(n, 3, f)], n
    if name == "gate":
        return [numbers(n, 3 * f), numbers(n, 3, f), numbers(n, 3, f)], n
    if name == "attention":
        heads = (student.size.heads, f // student.size.heads)
        return [*(numbers(n, *heads) for _ in range(3)), numbers(e, *heads), numbers(e, 1), edges], n
    if name == "radial":
        return [distance, student.frequencies.to(device), numbers(3 * f, student.size.radial), numbers(3 * f), 5.0], n
    raise LookupError(f"kernel {name}: no benchmark arguments defined in _arguments")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write ``reports/benchmarks.json`` and a plot. Exit status 2: unknown argument."""
    from rich.console import Console
    from rich.table import Table

    try:
        given = words(argv, ("quick", "compiled"))
    except UnknownName as error:
        print(error, file=sys.stderr)
        return 2
    quick, compiled = "quick" in given, "compiled" in given
    sizes, rounds, threads = ((8,), 5, (1,)) if quick else ((1, 8, 32), 15, (1, 2))
    console = Console()
    rows: list[Row] = []
    absent: list[str] = []
    if not torch.cuda.is_available():
        absent.append("cuda: not_run: no CUDA device")
    for device, count in [("cpu", n) for n in threads] + [("cuda", 1)] * torch.cuda.is_available():
        torch.set_num_threads(count)
        limits = ceilings(device)
        for size in sizes:
            for kernel in kernels.kernel_names():
                found, without = bench_kernel(kernel, size, rounds, device, compiled, limits)
                rows, absent = rows + found, absent + without
            for student in student_names():
                rows += bench_student(student, size, rounds, device, compiled, limits)
    table = Table(title=f"torch {torch.__version__}, float32")
    for heading in ("what", "contestant", "atoms/s", "ratio", "least", "greatest", "of ceiling", "MiB"):
        table.add_column(heading)
    for row in rows:
        ceiling = "" if row.ceiling is None else f"{row.ceiling:.0%}"
        peak = "" if row.peak_mib is None else f"{row.peak_mib:.0f}"
        numbers = (f"{row.atoms_per_second:.0f}", *(f"{x:.2f}" for x in row[3:6]))
        table.add_row(row.group, row.name, *numbers, ceiling, peak)
    console.print(table)
    for reason in dict.fromkeys(absent):
        console.print(reason, markup=False)
    folder = Path("reports")
    folder.mkdir(exist_ok=True)
    content = {"rows": [row._asdict() for row in rows], "not_run": list(dict.fromkeys(absent))}
    (folder / "benchmarks.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    plot(rows, folder / "benchmarks.png")
    return 0


def plot(rows: Sequence[Row], path: Path, ratio: str = "speed over eager") -> None:
    """Plot the ratios of all rows except the baselines, with their extremes; ``ratio`` is the axis label."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if row.ratio != 1.0]
    figure = Figure(figsize=(8, 1 + 0.25 * len(shown)), layout="constrained")
    axes = figure.subplots()
    spread = [[row.ratio - row.least for row in shown], [row.greatest - row.ratio for row in shown]]
    labels = [f"{row.group}: {row.name}" for row in shown]
    axes.errorbar([row.ratio for row in shown], labels, xerr=spread, fmt="o", color="tab:blue", ecolor="0.6")
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.grid(axis="x", color="0.9")
    axes.margins(y=0.5 / max(len(shown), 1))
    axes.invert_yaxis()
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(f"{ratio},\nin the same round: median and range")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    sys.exit(main())
