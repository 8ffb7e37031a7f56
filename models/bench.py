"""Speed as ratios, measured side by side: rounds in which every contestant runs once, in turn.

``python -m hydrogate.models.bench [quick]`` prints a table and writes ``reports/benchmarks.json``. The ratio of a
contestant is taken round by round against its baseline, so that a machine that slows down slows both.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ase import Atoms
from ase.data.s22 import create_s22_system, s22

from hydrogate.models.compiled import CompiledRefused, verified_energy_and_forces
from hydrogate.models.potential import EnergyAndForces, Student, Support, energy_and_forces
from hydrogate.models.students import make_student, student_names
from hydrogate.models.teachers import make_teacher


class Row(NamedTuple):
    """A measurement: atoms a second, median over the rounds, and the ratio to the baseline with its extremes."""

    name: str
    atoms_per_second: float
    ratio: float
    least: float
    greatest: float


def structures(count: int) -> list[Atoms]:
    """``count`` molecules and dimers of 12 to 30 atoms, from the S22 set that ASE carries."""
    large = [atoms for name in s22 if 12 <= len(atoms := create_s22_system(name)) <= 30]
    return [large[k % len(large)] for k in range(count)]


def interleaved(contestants: dict[str, Callable[[], object]], atoms: dict[str, int], rounds: int) -> list[Row]:
    """Each contestant once a round; the first is the baseline of the ratios."""
    for run in contestants.values():
        run()
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            speeds[name].append(atoms[name] / (time.perf_counter() - start))
    baseline = speeds[next(iter(contestants))]
    rows = []
    for name, of in speeds.items():
        ratios = [own / base for own, base in zip(of, baseline, strict=True)]
        rows.append(Row(name, statistics.median(of), statistics.median(ratios), min(ratios), max(ratios)))
    return rows


def _inference(student: Student, function: EnergyAndForces, some: Sequence[Atoms]) -> Callable[[], object]:
    batch = student.collate(some)
    return lambda: function(batch)


def _training(student: Student, function: EnergyAndForces, some: Sequence[Atoms]) -> Callable[[], object]:
    batch = student.collate(some)

    def step() -> None:
        energy, forces, _ = function(batch)
        torch.autograd.grad((forces**2).sum() + energy.sum(), list(student.parameters()))

    return step


def bench_student(name: str, batch_size: int, rounds: int) -> list[Row]:
    """Plain autograd against the compiled path, inference and training, and the teacher."""
    some = structures(batch_size)
    student = make_student(name, {}, Support.of(some))
    plain: EnergyAndForces = lambda batch: energy_and_forces(student, batch)  # noqa: E731
    graphed: EnergyAndForces = lambda batch: energy_and_forces(student, batch, create_graph=True)  # noqa: E731
    total = sum(map(len, some))
    label = f"{name}, batch {batch_size}"
    inference = {f"{label}, inference, eager": _inference(student, plain, some)}
    training = {f"{label}, training, eager": _training(student, graphed, some)}
    try:
        compiled = verified_energy_and_forces(student, student.collate(structures(max(2, batch_size))))
        inference[f"{label}, inference, compiled"] = _inference(student, compiled, some)
        training[f"{label}, training, compiled"] = _training(student, compiled, some)
    except CompiledRefused as refusal:
        print(f"{label}: {refusal}; eager alone")
    teacher = make_teacher("xtb")
    inference[f"{label}, teacher xtb"] = lambda: teacher.label(some[:1])
    atoms = dict.fromkeys([*inference, *training], total) | {f"{label}, teacher xtb": len(some[0])}
    return interleaved(inference, atoms, rounds) + interleaved(training, atoms, rounds)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write ``reports/benchmarks.json``."""
    from rich.console import Console
    from rich.table import Table

    quick = "quick" in (sys.argv[1:] if argv is None else argv)
    sizes, rounds = ((8,), 3) if quick else ((1, 8, 32), 9)
    rows = [row for name in student_names() for size in sizes for row in bench_student(name, size, rounds)]
    table = Table(title=f"torch {torch.__version__}, {torch.get_num_threads()} threads, CPU, float32")
    for heading in ("what", "atoms/s", "ratio to eager", "least", "greatest"):
        table.add_column(heading)
    for row in rows:
        table.add_row(row.name, f"{row.atoms_per_second:.0f}", *(f"{x:.2f}" for x in row[2:]))
    Console().print(table)
    Console().print("GPU rows: not_run: no CUDA device" if not torch.cuda.is_available() else "")
    content: dict[str, Any] = {row.name: row._asdict() for row in rows}
    path = Path("reports/benchmarks.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
