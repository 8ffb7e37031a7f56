"""Benchmark of the contracts in interleaved rounds: each contestant runs once per round, in its own process.

``nox -s benchmarks -- contracts [quick]`` prints a table and writes ``reports/benchmark-contracts.json``. The data set
(300,000 structures, 10 million atoms; quick: a tenth) is made in a temporary directory, and each contestant reads it
from disk, warm. The reference is NumPy reading the arrays and computing their minimum, maximum and sum. Ratios are
taken within each round, so that a slowdown of the machine affects both. Imports are timed separately.
"""

import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms

from hydrogate.checks.data.dataset import Dataset, concatenate
from hydrogate.checks.geometry.observables import bonds
from hydrogate.models.names import words
from hydrogate.pipeline.outputs import write_json
from hydrogate.pipeline.program import stage_exit_status
from hydrogate.pipeline.storage.hdf5 import read_dataset, write_dataset

STRUCTURES = 300_000
SAMPLE = Path("data/labelled.h5")
REPORT = Path("reports/benchmark-contracts.json")
STIFFNESS = 30.0  # eV/Å², force constant in `springs`
# Great Expectations takes minutes for the full table: it vectorises `between` only in double precision.
GX_SHARE = 10


class Row(NamedTuple):
    """Result of one contestant: seconds, ratio to the first contestant, peak memory (MB) and import time (s)."""

    name: str
    seconds: float
    ratio: float
    least: float
    greatest: float
    peak_mb: float
    import_seconds: float
    said: str


def springs(count: int, seed: int) -> Dataset:
    """Return ``count`` rattled dimers of ASE's S22 set, 4 per dimer, labelled with harmonic bonds."""
    from ase.data.s22 import create_s22_system, s22

    rng = np.random.default_rng(seed)
    systems = [atoms for name in s22 if len(atoms := create_s22_system(name)) >= 10]  # type: ignore[no-untyped-call]
    of = [systems[family % len(systems)] for family in range(-(-count // 4)) for _ in range(4)][:count]
    rest = concatenate([Atoms(atoms.numbers, atoms.positions) for atoms in of])
    bonded = bonds(rest)
    positions = (rest.positions + rng.normal(0.0, 0.03, rest.positions.shape)).astype(np.float32)
    along = positions[bonded.second].astype(np.float64) - positions[bonded.first]
    length = np.linalg.norm(along, axis=1)
    stretch = length - bonded.length
    force = (STIFFNESS * stretch / length)[:, None] * along
    forces = np.zeros(positions.shape)
    np.add.at(forces, bonded.first, force)
    np.subtract.at(forces, bonded.second, force)
    energy = np.bincount(rest.structure_of_atom, weights=-37.0 * rest.numbers, minlength=count).astype(np.float64)
    energy += np.bincount(rest.structure_of_atom[bonded.first], weights=0.5 * STIFFNESS * stretch**2, minlength=count)
    return replace(
        rest,
        positions=positions,
        forces=forces.astype(np.float32),
        energy=energy,
        parent=np.arange(count) // 4 * 4,
        source=np.full(count, "s22", dtype=object),
        teacher={"name": "springs"},
    )


def tiled(base: Dataset, count: int, seed: int) -> Dataset:
    """Return ``count`` structures: copies of ``base``, each molecule randomly rotated and its energies shifted."""
    from scipy.spatial.transform import Rotation

    assert base.forces is not None
    assert base.energy is not None
    rng = np.random.default_rng(seed)
    copies = -(-count // len(base))
    columns: dict[str, list[Any]] = {"positions": [], "forces": [], "energy": []}
    for _ in range(copies):
        turn = Rotation.random(len(base), random_state=rng).as_matrix()[base.parent][base.structure_of_atom]
        for name in ("positions", "forces"):
            turned = np.einsum("nij,nj->ni", turn, getattr(base, name), dtype=np.float64)
            columns[name].append(turned.astype(np.float32))
        columns["energy"].append(base.energy + rng.normal(0.0, 0.01, len(base))[base.parent])
    first = np.repeat(np.arange(copies) * len(base), len(base))
    many = base.subset(np.tile(np.arange(len(base)), copies))
    many = replace(
        many,
        parent=np.tile(base.parent, copies) + first,
        source_index=np.arange(len(many)),
        positions=np.concatenate(columns["positions"]),
        forces=np.concatenate(columns["forces"]),
        energy=np.concatenate(columns["energy"]),
    )
    return many.part(0, count)


def make_files(folder: Path, count: int) -> None:
    """Write ``clean.h5``, and ``failing.h5`` with all forces multiplied by 1000."""
    base = read_dataset(SAMPLE) if SAMPLE.exists() else springs(min(count, 4000), 0)
    data = tiled(base, count, 0)
    write_dataset(data, folder / "clean.h5")
    assert data.forces is not None
    write_dataset(replace(data, forces=data.forces * np.float32(1000)), folder / "failing.h5")


def numpy_pass(path: Path) -> str:
    """Read every array and compute minimum, maximum and sum."""
    import h5py

    read: list[np.ndarray] = []
    with h5py.File(path) as file:
        file.visititems(lambda _, item: read.append(item[...]) if isinstance(item, h5py.Dataset) else None)
    for values in read:
        if values.size:
            values.min(), values.max(), values.sum()
    return f"{sum(values.nbytes for values in read) / 1e6:.0f} MB"


def contract(path: Path) -> str:
    """Check contract ``labels`` from disk, as ``hydrogate check`` does."""
    from hydrogate.checks import check
    from hydrogate.pipeline.formats.shards import parts_of

    report = check(parts_of([path]), "labels")
    verdicts = [finding.verdict.value for finding in report.findings]
    return ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))


def _columns(path: Path, share: int = 1) -> dict[str, np.ndarray]:
    data = read_dataset(path)
    assert data.forces is not None
    rows = slice(len(data.numbers) // share)
    columns: dict[str, np.ndarray] = {"atomic_number": data.numbers[rows]}
    for prefix, values in (("pos", data.positions), ("force", data.forces)):
        columns |= {f"{prefix}_{axis}": values[rows, k] for k, axis in enumerate("xyz")}
    return columns


BETWEEN = {"atomic_number": (1, 118)} | {f"{of}_{axis}": (-1e3, 1e3) for of in ("pos", "force") for axis in "xyz"}


def pandera_polars(path: Path) -> str:
    """Check one range per column with pandera on polars, as in its tutorial."""
    import pandera.polars as pa
    import polars as pl

    pa.DataFrameSchema({name: pa.Column(checks=pa.Check.in_range(*of)) for name, of in BETWEEN.items()}).validate(
        pl.DataFrame(_columns(path)), lazy=True
    )
    return "7 rules"


def pandera_pandas(path: Path) -> str:
    """Check one range per column with pandera on pandas."""
    import pandas as pd
    import pandera.pandas as pa

    pa.DataFrameSchema({name: pa.Column(checks=pa.Check.in_range(*of)) for name, of in BETWEEN.items()}).validate(
        pd.DataFrame(_columns(path)), lazy=True
    )
    return "7 rules"


def great_expectations(path: Path) -> str:
    """Check one expectation per column with Great Expectations, as in its tutorial, on a tenth of the atoms."""
    import great_expectations as gx
    import pandas as pd

    context = gx.get_context(mode="ephemeral")
    source = context.data_sources.add_pandas("atoms")
    batch = source.add_dataframe_asset("atoms").add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(name="atoms"))
    for name, (low, high) in BETWEEN.items():
        suite.add_expectation(gx.expectations.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name="atoms", data=batch, suite=suite))
    definition.run(batch_parameters={"dataframe": pd.DataFrame(_columns(path, GX_SHARE))})
    return f"7 rules, {1 / GX_SHARE:.0%} of the atoms"


Contestant = Callable[[Path], str]
OURS = "hydrogate.checks, hydrogate.pipeline.formats.shards, pandera.polars"
# Function, file and imported modules.
CONTESTANTS: dict[str, tuple[Contestant, str, str]] = {
    "NumPy: read, min, max, sum": (numpy_pass, "clean.h5", "h5py"),
    "labels, clean": (contract, "clean.h5", OURS),
    "labels, every structure fails": (contract, "failing.h5", OURS),
    "pandera on polars, naive": (pandera_polars, "clean.h5", "pandera.polars"),
    "pandera on pandas, naive": (pandera_pandas, "clean.h5", "pandera.pandas"),
    "Great Expectations, naive": (great_expectations, "clean.h5", "great_expectations"),
}


def _serve(connection: Connection, run: Contestant, path: Path) -> None:
    """Serve a contestant's process: send the seconds of each requested round, then its peak memory."""
    said = ""
    while connection.recv():
        start = time.perf_counter()
        said = run(path)
        connection.send(time.perf_counter() - start)
    connection.send((_peak_mb(), said))


def _peak_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def interleaved(folder: Path, names: Sequence[str], rounds: int) -> list[Row]:
    """Run each contestant once per round, after a warm-up round; the first is the baseline."""
    context = multiprocessing.get_context("spawn")
    lines: dict[str, Connection] = {}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        run, file, _ = CONTESTANTS[name]
        lines[name], there = context.Pipe()
        context.Process(target=_serve, args=(there, run, folder / file), daemon=True).start()
        there.close()
    for _ in range(rounds + 1):
        for name, line in lines.items():
            line.send(True)
            try:
                seconds[name].append(line.recv())
            except EOFError:
                raise RuntimeError(f"{name}: its process ended; see the error above, or it ran out of memory") from None
    rows = []
    for name, line in lines.items():
        line.send(False)
        peak, said = line.recv()
        ratios = [own / base for own, base in zip(seconds[name][1:], seconds[names[0]][1:], strict=True)]
        median = statistics.median(seconds[name][1:])
        spread = (statistics.median(ratios), min(ratios), max(ratios))
        rows.append(Row(name, median, *spread, peak, _import_seconds(CONTESTANTS[name][2]), said))
    return rows


def _import_seconds(modules: str) -> float:
    """Return the time to import ``modules`` in a new interpreter, in seconds."""
    code = f"import time; start = time.perf_counter(); import {modules}; print(time.perf_counter() - start)"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def bench(count: int, rounds: int) -> dict[str, Any]:
    """Make the files, measure, and return the report."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # In a separate process, so that its memory is not part of a contestant's peak.
        maker = multiprocessing.get_context("spawn").Process(target=make_files, args=(folder, count))
        maker.start()
        maker.join()
        if maker.exitcode:
            raise RuntimeError(f"making the data set of the benchmark failed with exit status {maker.exitcode}")
        rows = interleaved(folder, tuple(CONTESTANTS), rounds)
    return {"structures": count, "rounds": rounds, "rows": [row._asdict() for row in rows]}


def _print(result: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result['structures']} structures, {result['rounds']} rounds; ratios to the first row")
    table.add_column("what", no_wrap=True)
    for heading in ("s", "ratio", "range", "peak MB", "import s", "result"):
        table.add_column(heading, justify="right")
    for row in (Row(**values) for values in result["rows"]):
        spread = f"{row.least:.1f}-{row.greatest:.1f}"
        figures = (f"{row.seconds:.3f}", f"{row.ratio:.1f}", spread, f"{row.peak_mb:.0f}", f"{row.import_seconds:.1f}")
        table.add_row(row.name, *figures, row.said)
    Console().print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write ``reports/benchmark-contracts.json``; exits 0 for any result."""
    quick = "quick" in words(argv, ("quick",))
    result = bench(STRUCTURES // 10 if quick else STRUCTURES, 3 if quick else 7)
    _print(result)
    write_json(REPORT, result)
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
