"""Profile of a student's step by group of operations: ``python -m studies.benchmarks.step_profile [quick]``.

Writes ``reports/profile.json``. Operations are grouped by their limiting resource. The peak rates of matrix products
and memory traffic are measured on this machine in the same run. Bytes count an operation's inputs and one output.
"""

import copy
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from hydrogate.models.batch import Batch
from hydrogate.models.names import UnknownName, words
from hydrogate.models.potential import Student, Support, energy_and_forces
from hydrogate.models.students import make_student, student_names
from studies.benchmarks.kernels import structures
from studies.benchmarks.measure import ceilings

# Operations by prefix of their name; all others are elementwise if they have tensor inputs, otherwise overhead.
GROUPS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::linear", "aten::matmul"),
    "gather and scatter": (
        "aten::index",
        "aten::_index_put",
        "aten::gather",
        "aten::scatter",
        "aten::embedding",
        "aten::_embedding",
    ),
    "copies": ("aten::copy_", "aten::cat", "aten::fill_", "aten::zero_", "aten::clone"),
    "kernels of this project": ("Forward", "Backward", "_AtOnce"),
}


class Share(NamedTuple):
    """One group of operations in one step.

    Parameters
    ----------
    group : str
    milliseconds : float
    share : float
        Fraction of the time of the step.
    rate : float
        GF/s of matrix products, GB/s of all others.
    of_ceiling : float
        ``rate`` divided by the peak rate measured on this machine.
    """

    group: str
    milliseconds: float
    share: float
    rate: float
    of_ceiling: float


def group_of(name: str, shapes: Sequence[Any], edges: int) -> str:
    """Return the group of an operation with inputs of ``shapes`` in a graph with ``edges`` edges."""
    for group, starts in GROUPS.items():
        if name.startswith(starts):
            return group
    sized = [shape for shape in shapes if isinstance(shape, list) and shape]
    if not sized:
        return "other"
    return "elementwise on edges" if any(edges in shape for shape in sized) else "elementwise on atoms"


def _bytes(event: FunctionEvent) -> int:
    shapes: Sequence[object] = event.input_shapes  # a list for each tensor
    counts = [4 * torch.Size(shape).numel() for shape in shapes if isinstance(shape, list) and shape]
    return sum(counts) + max(counts, default=0)


def shares(step: Callable[[], object], edges: int, limits: dict[str, float], repeats: int) -> list[Share]:
    """Profile ``step`` and return its groups of operations, the slowest first."""
    step()
    cuda = torch.cuda.is_available()
    with profile(
        activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])],
        record_shapes=True,
        with_flops=True,
        acc_events=True,
    ) as recorded:
        for _ in range(repeats):
            step()
    sums: dict[str, list[float]] = {}
    for event in recorded.events():
        own = (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e6
        entry = sums.setdefault(group_of(event.name, event.input_shapes, edges), [0.0, 0.0, 0.0])
        entry[0] += own
        entry[1] += float(event.flops or 0)
        # Views and autograd's own bookkeeping move no data.
        entry[2] += _bytes(event) if own > 5e-6 else 0
    total = sum(spent for spent, _, _ in sums.values())
    found = []
    for group, (spent, flops, moved) in sums.items():
        products = group == "matrix products"
        rate = (flops if products else moved) / spent / 1e9 if spent else 0.0
        found.append(
            Share(group, 1e3 * spent / repeats, spent / total, rate, rate / limits["GF/s" if products else "GB/s"])
        )
    return sorted(found, key=lambda one: -one.share)


def steps(student: Student, batch: Batch) -> dict[str, Callable[[], object]]:
    """Return one inference and one training step, with plain autograd."""

    def training() -> None:
        energy, forces, _ = energy_and_forces(student, batch, create_graph=True)
        torch.autograd.grad((forces * forces).sum() + energy.sum(), list(student.parameters()), allow_unused=True)

    constant = copy.deepcopy(student).requires_grad_(False)
    return {"inference": lambda: energy_and_forces(constant, batch), "training": training}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write ``reports/profile.json``. Exit status 2: unknown argument."""
    from rich.console import Console
    from rich.table import Table

    try:
        given = words(argv, ("quick",))
    except UnknownName as error:
        print(error, file=sys.stderr)
        return 2
    device = "cuda" if torch.cuda.is_available() else "cpu"
    limits = ceilings(device)
    some = structures(8)
    content: dict[str, Any] = {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}
    content |= {"ceilings": limits, "steps": {}}
    title = ", ".join(f"{value:.0f} {unit}" for unit, value in limits.items())
    table = Table(title=f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads; ceilings {title}")
    for heading in ("step", "group", "ms", "share", "rate", "of ceiling"):
        table.add_column(heading)
    for name in student_names():
        student = make_student(name, {}, Support.of(some)).to(device)
        batch = student.collate(some).to(device, torch.float32)
        for what, step in steps(student, batch).items():
            label = f"{name}, batch {batch.n_structures}, {what}"
            rows = shares(step, batch.edge_index.shape[1], limits, 2 if "quick" in given else 10)
            content["steps"][label] = [row._asdict() for row in rows]
            for row in rows:
                unit = "GF/s" if row.group == "matrix products" else "GB/s"
                table.add_row(
                    label,
                    row.group,
                    f"{row.milliseconds:.2f}",
                    f"{row.share:.0%}",
                    f"{row.rate:.1f} {unit}",
                    f"{row.of_ceiling:.0%}",
                )
            table.add_section()
    Console().print(table)
    path = Path("reports/profile.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
