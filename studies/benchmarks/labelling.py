"""Benchmark of stage `label` with one and two processes against a plain loop over tblite.

``python -m studies.benchmarks.labelling [quick]`` prints a table and writes ``reports/benchmark-labelling.json``.
Each contestant runs in its own process, once per round, on the same structures (from ``data/structures.h5``, or rattled
S22 dimers if that file does not exist). It also runs on a few of them, to separate start-up time from labelling time.
CPU-seconds include child processes.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hydrogate.checks.data.dataset import Dataset
from hydrogate.models.names import words
from hydrogate.pipeline.outputs import write_json
from hydrogate.pipeline.params import Label
from hydrogate.pipeline.program import stage_exit_status
from hydrogate.pipeline.stages import label
from hydrogate.pipeline.storage.hdf5 import read_dataset, without_labels
from studies.benchmarks.contracts import springs

SAMPLE = Path("data/structures.h5")
REPORT = Path("reports/benchmark-labelling.json")
PARAMS = {"teacher": "xtb", "method": None, "weights": None, "dipoles": True}
CONTESTANTS = ("bare", "1", "2")
FEW = 16  # two chunks, so that two processes are started
TARGETS = "target at most 1.05; two processes at least 1.8 times as fast as one"


class Cost(NamedTuple):
    """Wall-clock seconds and CPU-seconds of one run, without the start of the interpreter."""

    wall: float
    cpu: float


def structures(count: int) -> Dataset:
    """Return ``count`` unlabelled structures, evenly spaced in the sample."""
    data = read_dataset(SAMPLE) if SAMPLE.exists() else springs(max(count, 400), 0)
    return without_labels(data.subset(np.unique(np.linspace(0, len(data) - 1, count).astype(int))))


def bare(data: Dataset) -> None:
    """Run tblite's own example in a loop: energy, gradient, charges and dipole of each structure."""
    from ase.units import Bohr
    from tblite.interface import Calculator

    for row in range(len(data)):
        atoms = data.to_atoms(row)
        uhf = atoms.info["spin"] - 1
        calculator = Calculator("GFN2-xTB", atoms.numbers, atoms.positions / Bohr, charge=atoms.info["charge"], uhf=uhf)
        calculator.set("verbosity", 0)
        result = calculator.singlepoint()
        for name in ("energy", "gradient", "charges", "dipole"):
            result.get(name)


def run(contestant: str, count: int) -> Cost:
    """Label ``count`` structures in this process; ``contestant`` is "bare" or a number of processes."""
    data = structures(count)
    before, start = os.times(), time.perf_counter()
    if contestant == "bare":
        bare(data)
    else:
        with tempfile.TemporaryDirectory() as folder:
            label.run(data, Label.model_validate({**PARAMS, "workers": int(contestant)}), Path(folder))
    after = os.times()
    return Cost(time.perf_counter() - start, sum(after[:4]) - sum(before[:4]))


def measured(contestant: str, count: int) -> Cost:
    """Run :func:`run` in a separate process."""
    command = [sys.executable, "-m", "studies.benchmarks.labelling", contestant, str(count)]
    said = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return Cost(*json.loads(said.stdout.splitlines()[-1]))


def bench(count: int, rounds: int) -> dict[str, Any]:
    """Measure, and return the report: start-up time and time per structure of each contestant."""
    costs: dict[str, list[tuple[Cost, Cost]]] = {name: [] for name in CONTESTANTS}
    for _ in range(rounds):
        for name in CONTESTANTS:
            costs[name].append((measured(name, FEW), measured(name, count)))
    rows: dict[str, Any] = {}
    for name, pairs in costs.items():
        row: dict[str, Any] = {}
        for kind in Cost._fields:
            few, many = ([getattr(pair[k], kind) for pair in pairs] for k in (0, 1))
            each = [(b - a) / (count - FEW) for a, b in zip(few, many, strict=True)]
            row[f"{kind}_ms"] = 1e3 * statistics.median(each)
            row[f"{kind}_start_s"] = statistics.median(a - FEW * slope for a, slope in zip(few, each, strict=True))
            row[f"{kind}_each"] = each
        rows[name] = row
    for into, kind, name, above, below in (
        ("cpu over bare", "cpu", "1", "1", "bare"),
        ("wall over bare", "wall", "1", "1", "bare"),
        ("cpu over bare", "cpu", "2", "2", "bare"),
        ("times as fast as one", "wall", "2", "1", "2"),
    ):
        ratios = [a / b for a, b in zip(rows[above][f"{kind}_each"], rows[below][f"{kind}_each"], strict=True)]
        rows[name][into] = (statistics.median(ratios), min(ratios), max(ratios))
    return {"structures": count, "rounds": rounds, "targets": TARGETS, "rows": rows}


def _print(result: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result['structures']} structures, {result['rounds']} rounds; ratios: {result['targets']}")
    for heading in ("contestant", "ms each", "CPU ms each", "start-up s", "start-up CPU s", "ratios, median (range)"):
        table.add_column(heading)
    for name, row in result["rows"].items():
        ratios = [f"{what} {v[0]:.3f} ({v[1]:.3f} to {v[2]:.3f})" for what, v in row.items() if isinstance(v, tuple)]
        figures = (row["wall_ms"], row["cpu_ms"], row["wall_start_s"], row["cpu_start_s"])
        called = "plain loop" if name == "bare" else f"the stage, {name} process{'es' * (name != '1')}"
        table.add_row(called, *(f"{figure:.2f}" for figure in figures), "\n".join(ratios))
    Console().print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the report; exits 0 for any result. With a contestant and a count, run only that."""
    given = sys.argv[1:] if argv is None else argv
    if given and given[0] in CONTESTANTS:
        print(json.dumps(run(given[0], int(given[1]))))
        return 0
    result = bench(100, 2) if "quick" in words(given, ("quick",)) else bench(400, 5)
    _print(result)
    write_json(REPORT, result)
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
