"""Benchmark of third-party models against the students: speed in interleaved rounds, and CPU-seconds to an accuracy.

``python -m studies.benchmarks.peers [quick | accuracy]`` prints tables and writes
``reports/benchmarks-peers.json`` and ``reports/benchmarks-peers.png``; ``quick`` runs inference at batch 8 in two
rounds and writes ``reports/benchmarks-peers-quick.*``, ``accuracy`` runs the second half only. Each contestant is a
separate process with one thread, the peers in their own environments (``.nox/peers``); it waits while another is
timed. A contestant whose time to accuracy is already in the report is not trained again.
"""

import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hydrogate.checks.data.dataset import Dataset
from hydrogate.models.names import words
from hydrogate.pipeline.outputs import write_json
from hydrogate.pipeline.program import stage_exit_status
from hydrogate.pipeline.storage.hdf5 import read_dataset
from studies.peer_models._client import Contestant, ContestantDied, Speed, interleaved
from studies.peer_models._environment import NotInstalled, interpreter, peers
from studies.peer_models._worker import Structure, write_structures

LABELLED = Path("data/labelled.h5")
REPORT, QUICK = Path("reports/benchmarks-peers.json"), Path("reports/benchmarks-peers-quick.json")
ENVIRONMENTS = Path(".nox/peers")
WORKER = Path(__file__).parents[1] / "peer_models" / "_worker.py"
ROUNDS, QUICK_ROUNDS = 7, 2
AT_LEAST = 0.5  # CPU-seconds of a contestant's turn
LARGEST_BATCH = 32
# Force RMSE on split ``valid`` in eV/Å, and the number of epochs of the student's schedule to reach it.
THRESHOLDS = (0.25, 0.20)
EPOCHS = 5
PATIENCE = 4.0  # a peer is stopped after this multiple of the student's time
LOOKS, OWN_EVERY = 6, 3.0  # evaluations during a peer's time; the student's interval in CPU-seconds
SPEED_TARGETS = (
    ("inference", "Orb-v3 conservative", 150.0),
    ("inference", "Orb-v3 direct", 80.0),
    ("training", "torchmd-net TensorNet64", 2.0),
)
TIME_TARGET = 1 / 3  # fraction of the best peer's time to an accuracy


@dataclass(frozen=True)
class Entry:
    """Command that starts a contestant's worker, and the reason if it is not trained."""

    command: tuple[str, ...]
    not_trained: str | None = None


class Target(NamedTuple):
    """A target: its description, the measured value (None if not measured), and whether it is reached."""

    target: str
    found: float | None
    reached: bool | None


def own_entries() -> dict[str, Entry]:
    """Return the students, the trained one first."""
    from hydrogate.models.student_file import read_about
    from hydrogate.models.students import student_names

    first = str(read_about(Path("data/student.safetensors"))["student"])
    names = [first, *(name for name in student_names() if name != first)]
    return {
        f"hydrogate {name}": Entry((sys.executable, "-m", "studies.benchmarks.own_students", name)) for name in names
    }


def peer_entries(root: Path = ENVIRONMENTS) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the peers' contestants, installed if necessary, and the reasons why others are not available."""
    entries: dict[str, Entry] = {}
    absent: dict[str, str] = {}
    for peer in peers():
        print(f"peer {peer.name}: {', '.join(peer.requirements)}", file=sys.stderr)
        try:
            python = interpreter(peer, root)
        except NotInstalled as reason:
            absent |= dict.fromkeys(peer.contestants, str(reason))
            continue
        for name in peer.contestants:
            # -P: a peer's file must not shadow the library of the same name.
            command = (str(python.absolute()), "-P", str(WORKER), str(peer.script), name)
            entries[name] = Entry(command, peer.not_trained)
    return entries, absent


def structures_of(data: Dataset, rows: Sequence[int]) -> list[Structure]:
    """Return ``rows`` of the labelled ``data`` as plain arrays."""
    assert data.energy is not None and data.forces is not None
    found = []
    for row in rows:
        atoms = data.atoms_of(row)
        positions, forces = (np.asarray(of[atoms], dtype=np.float64) for of in (data.positions, data.forces))
        numbers = np.asarray(data.numbers[atoms], dtype=np.int64)
        found.append(Structure(numbers, positions, float(data.energy[row]), forces))
    return found


def speeds(entries: Mapping[str, Entry], data: Dataset, quick: bool) -> tuple[list[Speed], dict[str, str]]:
    """Measure all contestants on structures of split ``test``; also return the reasons why some did not run."""
    contests = [("inference", batch) for batch in ((8,) if quick else (1, 8, LARGEST_BATCH))]
    contests += [] if quick else [("training", batch) for batch in (8, LARGEST_BATCH)]
    rows: list[Speed] = []
    absent: dict[str, str] = {}
    drawn = np.random.default_rng(0).permutation(np.flatnonzero(data.split == "test"))[:LARGEST_BATCH]
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        write_structures(folder / "structures.npz", structures_of(data, drawn.tolist()))
        running = {}
        for number, (name, entry) in enumerate(entries.items()):
            running[name] = stack.enter_context(Contestant(entry.command, folder / f"{number}.log"))
        for what, batch in contests:
            able = {
                name: one
                for name, one in running.items()
                if name not in absent and (what == "inference" or not entries[name].not_trained)
            }
            print(f"{what}, batch {batch}: {', '.join(able)}", file=sys.stderr)
            rounds = QUICK_ROUNDS if quick else ROUNDS
            found, died = interleaved(able, what, batch, folder / "structures.npz", rounds, AT_LEAST)
            rows, absent = rows + found, absent | died
    return rows, absent


@contextmanager
def learning(data: Dataset) -> Iterator[dict[str, str]]:
    """Write the training files, splits ``train`` and ``valid``; reading them is not part of the measured time."""
    with tempfile.TemporaryDirectory() as temporary:
        files = {"labelled": str(LABELLED.absolute())}
        for name, split in (("train", "train"), ("held_out", "valid")):
            files[name] = str(Path(temporary) / f"{name}.npz")
            write_structures(files[name], structures_of(data, np.flatnonzero(data.split == split).tolist()))
        yield files


def time_to_accuracy(entry: Entry, files: Mapping[str, str], budget: float, every: float) -> dict[str, Any]:
    """Train one contestant to the last threshold or the end of its budget in CPU-seconds, compilation included."""
    command = {"do": "learn", "until": min(THRESHOLDS), "epochs": EPOCHS, "budget": budget, "every": every, **files}
    with tempfile.TemporaryDirectory() as temporary:
        caches = ("TORCH_EXTENSIONS_DIR", "TORCHINDUCTOR_CACHE_DIR", "WARP_CACHE_PATH", "NUMBA_CACHE_DIR")
        environment = {name: str(Path(temporary) / name.lower()) for name in caches}
        with Contestant(entry.command, Path(temporary) / "log", environment) as contestant:
            *points, last = contestant.learn(command)
    return {
        "points": points,
        "ended": last["done"],
        "reached": {f"{threshold:.2f}": bracket(points, threshold) for threshold in THRESHOLDS},
    }


def bracket(points: Sequence[Mapping[str, float | None]], threshold: float) -> list[float | None]:
    """Return the CPU-seconds between which the force RMSE fell to ``threshold``; upper end None if it did not."""
    low = 0.0
    for point in points:
        seconds, rmse = point["cpu_seconds"], point["force_rmse"]
        assert seconds is not None
        if rmse is not None and rmse <= threshold:
            return [low, seconds]
        low = seconds
    return [low, None]


def accuracy(own: str, entries: Mapping[str, Entry], data: Dataset, report: dict[str, Any]) -> dict[str, str]:
    """Fill ``report["accuracy"]`` for missing contestants, ``own`` first; return the reasons why some do not run.

    Each result is written to the report immediately.

    Raises
    ------
    RuntimeError
        ``own``, whose time sets the budget of the others, did not reach the last threshold.
    """
    kept, last = report["accuracy"], f"{min(THRESHOLDS):.2f}"
    absent: dict[str, str] = {}
    budget, every = math.inf, OWN_EVERY
    with learning(data) as files:
        for name, entry in entries.items():
            if entry.not_trained:
                absent[f"{name}, training"] = entry.not_trained
            elif name not in kept:
                print(f"time to accuracy: {name}, up to {budget:.0f} CPU-seconds", file=sys.stderr)
                try:
                    kept[name] = time_to_accuracy(entry, files, budget, every)
                except ContestantDied as reason:
                    if name == own:
                        raise
                    absent[f"{name}, time to accuracy"] = str(reason)
                    continue
                write(report)
            if name == own:
                seconds = kept[own]["reached"][last][1]
                if seconds is None:
                    raise RuntimeError(f"{own} did not reach {last} eV/Å in {EPOCHS} epochs; check the data first")
                budget, every = PATIENCE * seconds, PATIENCE * seconds / LOOKS
    return absent


def targets(report: Mapping[str, Any]) -> list[Target]:
    """Evaluate the targets of the project from the speeds and times in ``report``."""
    rows = [Speed(**row) for row in report["rows"]]
    found = []
    for what, name, wanted in SPEED_TARGETS:
        ratios = [row.ratio for row in rows if (row.what, row.batch, row.name) == (what, LARGEST_BATCH, name)]
        ratio = ratios[0] if ratios else None
        target = f"{what} at batch {LARGEST_BATCH} at least {wanted:g} times as fast as {name}"
        found.append(Target(target, ratio, None if ratio is None else ratio >= wanted))
    own, *others = report["accuracy"].values() or [None]
    # The best peer is known only after all have run.
    missing = [name for name in report["to_train"] if name not in report["accuracy"]]
    for threshold in THRESHOLDS:
        key = f"{threshold:.2f}"
        target = f"time to {key} eV/Å at most {TIME_TARGET:.2f} of the best peer's"
        if missing or not others or own["reached"][key][1] is None:
            found.append(Target(target, None, None))
            continue
        # Upper end for ours, lower end for theirs, which is 0 if they were below at the first evaluation.
        least = min(other["reached"][key][0] for other in others)
        share = own["reached"][key][1] / least if least else None
        found.append(Target(target, share, share is not None and share <= TIME_TARGET))
    return found


def read_report(fingerprint: str, path: Path = REPORT) -> dict[str, Any]:
    """Read an earlier report; start an empty one if its data or number of epochs differ."""
    made_of = {"labelled_fingerprint": fingerprint, "epochs": EPOCHS}
    empty: dict[str, Any] = {"to_train": [], "rows": [], "not_run": {}, "accuracy": {}, "targets": [], **made_of}
    if not path.exists():
        return empty
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        report = {name: found[name] for name in empty}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a report of this benchmark ({error!r}); delete it to measure again") from error
    return report if all(report[name] == value for name, value in made_of.items()) else empty


def write(report: dict[str, Any], path: Path = REPORT) -> None:
    """Write the report as JSON, with the current state of the targets."""
    report["targets"] = [target._asdict() for target in targets(report)]
    write_json(path, report)


def show(report: Mapping[str, Any]) -> None:
    """Print the report as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if report["rows"]:
        own = report["rows"][0]["name"]
        table = Table(title=f"Atoms per CPU-second, one thread; speedup of {own}, median and range")
        for heading in ("what", "batch", "contestant", "atoms/s", "ratio", "least", "greatest"):
            table.add_column(heading, justify="left" if heading in ("what", "contestant") else "right")
        for row in (Speed(**row) for row in report["rows"]):
            figures = (f"{row.atoms_per_second:.0f}", *(f"{ratio:.3g}" for ratio in row[4:]))
            table.add_row(row.what, str(row.batch), row.name, *figures)
        console.print(table)
    if report["accuracy"]:
        table = Table(title=f"CPU-seconds to a force RMSE on split valid; schedule of the student: {EPOCHS} epochs")
        for heading in ("contestant", *(f"{threshold:.2f} eV/Å" for threshold in THRESHOLDS), "lowest RMSE", "ended"):
            table.add_column(heading)
        for name, run in report["accuracy"].items():
            times = [
                f"> {low:.0f}" if high is None else f"{low:.0f} to {high:.0f}" for low, high in run["reached"].values()
            ]
            lowest = min((point["force_rmse"] or math.inf for point in run["points"]), default=math.inf)
            table.add_row(name, *times, f"{lowest:.3f}", run["ended"])
        console.print(table)
    for target in (Target(**target) for target in report["targets"]):
        verdict = {True: "reached", False: "missed", None: "not_run"}[target.reached]
        console.print(
            f"{verdict}: {target.target}" + ("" if target.found is None else f": {target.found:.3g}"), markup=False
        )
    for name, reason in report["not_run"].items():
        console.print(f"{name}: not_run: {reason}", markup=False)


def cuda() -> str:
    """Return the reason why there are no GPU rows."""
    import torch

    return "the peers are timed on the CPU only" if torch.cuda.is_available() else "no CUDA device"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the report; exits 0 for any result."""
    given = words(argv, ("quick", "accuracy"))
    if len(given) > 1:
        raise ValueError(f"{' '.join(sorted(given))}: expected no argument, 'quick' or 'accuracy'")
    data = read_dataset(LABELLED)
    quick = "quick" in given
    path = QUICK if quick else REPORT  # a quick run must not replace the rows of a full one
    report = read_report(data.fingerprint(), path)
    students = own_entries()
    others, absent = peer_entries()
    absent["cuda"] = cuda()
    if "accuracy" not in given:
        rows, died = speeds(students | others, data, quick)
        report["rows"], absent = [row._asdict() for row in rows], absent | died
    report["not_run"] = absent
    untrained = {name for peer in peers() if peer.not_trained for name in peer.contestants}
    untrained |= {name for name, entry in others.items() if entry.not_trained}
    report["to_train"] = sorted({*others, *absent} - untrained - {"cuda"} - set(students))
    write(report, path)
    own = next(iter(students))
    if not quick:
        report["not_run"] |= accuracy(own, {own: students[own], **others}, data, report)
        write(report)
    show(report)
    if report["rows"]:
        from studies.benchmarks.kernels import Row, plot

        rows = [Speed(**row) for row in report["rows"]]
        drawn = [Row(f"{row.what}, batch {row.batch}", *row[2:]) for row in rows]
        plot(drawn, path.with_suffix(".png"), f"speedup of {own}")
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
