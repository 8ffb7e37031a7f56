"""Stage ``dynamics``: whether molecular dynamics with the student holds together, for the gate ``md_stability``.

In:  ``data/labelled.h5``, ``data/student.safetensors``; Å, eV, fs and ps.
Out: ``data/md.traj``, the frames; ``metrics/md.json``, metrics and verdicts with the fingerprints of what was run.

Molecules of the held-out split, relaxed, warmed up by Langevin dynamics and left to themselves at constant energy
(:mod:`hydrogate.pipeline.dynamics.simulate`). A run shorter than ``limits.nve_ps`` finds what breaks; it shows no
stability.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from pydantic import ValidationError

from hydrogate.checks.data.dataset import Dataset, concatenate
from hydrogate.checks.declarations import explain, load_yaml
from hydrogate.checks.errors import BadParams
from hydrogate.checks.findings import Report
from hydrogate.checks.metrics.bootstrap import Metric
from hydrogate.checks.metrics.comparison import molecules_of
from hydrogate.checks.metrics.md_record import MdProtocol, Trajectory
from hydrogate.checks.metrics.md_stability import findings, judge, metrics
from hydrogate.pipeline.dynamics.simulate import (
    STEPS_PER_SEGMENT,
    MakePotential,
    Start,
    dealt,
    recordings_of,
    simulate,
    steps_done,
    student_potential,
)
from hydrogate.pipeline.dynamics.trajectories import Recording, write_recordings
from hydrogate.pipeline.outputs import write_json
from hydrogate.pipeline.params import load_params
from hydrogate.pipeline.program import progress_bar, stage_exit_status
from hydrogate.pipeline.storage.hdf5 import read_dataset
from hydrogate.pipeline.storage.resume import PROGRESS, locked
from hydrogate.pipeline.training.predict import student_identity
from hydrogate.pipeline.workers.pool import over_processes


class Result(NamedTuple):
    """What each molecule did, and what is said of all of them."""

    report: Report
    metrics: dict[str, Metric]

    def lines(self) -> list[str]:
        """The metrics in words."""
        return [f"{name}: {metric}" for name, metric in self.metrics.items()]


def chosen(data: Dataset, count: int, seed: int, split: str = "") -> list[int]:
    """One structure each of at most ``count`` molecules of ``split`` ("" is all), drawn at random; in order.

    Raises
    ------
    ValueError
        There is none.
    """
    rows = np.flatnonzero(data.split == split) if split else np.arange(len(data))
    if not len(rows):
        raise ValueError(f"no structure to run dynamics of ({data!r}{f', split {split!r}' if split else ''})")
    _, first = np.unique(molecules_of(data)[rows], return_index=True)
    drawn = np.random.default_rng(seed).permutation(len(first))[:count]
    return sorted(rows[first[drawn]].tolist())


def refuse_untaught(student: Path, data: Dataset, rows: Sequence[int]) -> None:
    """Raise unless the student in the file ``student`` can move the structures ``rows`` of ``data``.

    Raises
    ------
    FileNotFoundError, UnreadableStudent
        There is no such student.
    ValueError
        The student was not taught one of the structures, or it is periodic or impossible; it is named.
    """
    from hydrogate.models.dynamics import StudentPotential
    from hydrogate.models.student_file import load_student

    loaded = load_student(student)
    for row in rows:
        try:
            StudentPotential(loaded, [data.to_atoms(row)])
        except ValueError as error:
            raise ValueError(f"{data.name(row)}: {error}") from error


def teacher_identity(name: str) -> dict[str, Any]:
    """Of the teacher ``name`` at its default level of theory.

    Raises
    ------
    UnknownName
        No such teacher.
    """
    from hydrogate.models.teachers import make_teacher

    return make_teacher(name).identity()


@contextmanager
def run(
    data: Dataset,
    rows: Sequence[int],
    make: MakePotential,
    protocol: MdProtocol,
    *,
    identity: Mapping[str, Any],
    root: Path,
    task: str = "md",
) -> Iterator[list[Recording]]:
    """The dynamics of the structures ``rows`` of ``data``: the run at constant energy, frame by frame.

    What was computed is kept in ``root`` until the block ends well; after a kill the same call continues.

    Parameters
    ----------
    data : Dataset
    rows : sequence of int
    make : callable
        Gives the potential of some structures.
    protocol : MdProtocol
    identity : mapping
        Of the potential; what another one has left in ``root`` is removed.
    root : Path
    task : str
        What the progress bar calls it.

    Raises
    ------
    AlreadyRunning
        Another process runs there.
    """
    starts = [Start(row, data.name(row), data.to_atoms(row)) for row in rows]
    chunks, steps = dealt(starts), sum(protocol.steps)
    with locked("dynamics", root):
        place = root / _key([data.structure_fingerprint(row) for row in rows], rows, protocol, identity)
        for other in root.iterdir():
            if other.is_dir() and other != place:
                shutil.rmtree(other)

        def done() -> int:
            return sum(steps_done(chunk, protocol, place) for chunk in chunks)

        with (
            progress_bar(task, total=steps * len(chunks), done=done(), unit="steps") as advance,
            _watched(done, advance),
        ):
            move = partial(simulate, make=make, protocol=protocol, root=place)
            if len(chunks) == 1:
                move(chunks[0])
            else:
                for _ in over_processes(move, chunks):
                    pass
        found = {
            start.row: one for c in chunks for start, one in zip(c, recordings_of(c, protocol, place), strict=True)
        }
        yield [found[row] for row in rows]
    shutil.rmtree(root)


def _key(structures: Sequence[str], rows: Sequence[int], protocol: MdProtocol, identity: Mapping[str, Any]) -> str:
    """Of all that a run depends on."""
    how = protocol.model_dump(exclude={"count", "limits"})
    said = [structures, list(rows), how, protocol.limits.exploded_temperature, dict(identity), STEPS_PER_SEGMENT]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def _watched(done: Callable[[], int], advance: Callable[[int], None]) -> Iterator[None]:
    """Tell ``advance`` once a second by how much ``done`` has grown: the processes say it by their files alone."""
    ended, seen = Event(), done()

    def look() -> None:
        nonlocal seen
        over = False
        while not over:
            over = ended.wait(1.0)
            now = done()
            advance(now - seen)
            seen = now

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def judged(trajectories: Sequence[Trajectory], protocol: MdProtocol, fingerprint: str) -> Result:
    """The verdict of each check over all molecules, and the metrics.

    Parameters
    ----------
    trajectories : sequence of Trajectory
    protocol : MdProtocol
        The temperature that was intended, and the limits.
    fingerprint : str
        Of what was judged.
    """
    each = [judge(trajectory, protocol.temperature, protocol.limits) for trajectory in trajectories]
    measured = metrics(each, seed=protocol.seed)
    data = concatenate([Atoms(of.numbers) for of in trajectories])
    summary = {
        "structures": len(data),
        "atoms": len(data.numbers),
        "species_percent": data.species_percentages(),
        "metrics": {name: metric.to_dict() for name, metric in measured.items()},
    }
    found = findings(each, protocol.limits)
    return Result(Report("dynamics", "md_stability", fingerprint, found, summary=summary), measured)


def to_json(result: Result, protocol: MdProtocol) -> dict[str, Any]:
    """The form of ``metrics/md.json``: plain finite numbers and strings."""
    checks = {
        finding.check: {"verdict": str(finding.verdict), "n_bad": finding.n_bad, **finding.observed}
        | {"message": finding.message}
        for finding in result.report.findings
    }
    content = {"structures": result.report.summary["structures"], "atoms": result.report.summary["atoms"]}
    content |= {"nve_ps": protocol.nve_ps, "warm_up_ps": protocol.warm_up_ps, "time_step_fs": protocol.time_step_fs}
    content |= {"teacher_drift": "not_run: the limit is that of params.yaml alone"}
    content |= {name: metric.to_dict() for name, metric in result.metrics.items()} | {"checks": checks}
    return content | ({"note": note} if (note := shortfall(protocol)) else {})


def shortfall(protocol: MdProtocol) -> str:
    """Why no run of ``protocol`` shows stability; empty where it can."""
    if protocol.nve_ps >= protocol.limits.nve_ps:
        return ""
    return (
        f"{protocol.nve_ps:g} ps of dynamics show no stability, {protocol.limits.nve_ps:g} ps are needed: "
        f"python3 -m nox -s repro -- -S dynamics.nve_ps={protocol.limits.nve_ps:g} -S dynamics.warm_up_ps=2"
    )


def declared(given: Mapping[str, Any], path: Path = Path("params.yaml")) -> MdProtocol:
    """The protocol with what is ``given`` in place of its own, and the limits that ``path`` declares, if any.

    Raises
    ------
    BadParams
        A value is out of range, or ``path`` declares what there is not.
    """
    content = load_yaml(path) if path.exists() else {}
    limits = read_protocol(content, str(path)).limits
    return read_protocol({"dynamics": {**given, "limits": limits}}, "hydrogate md")


def read_protocol(content: Mapping[str, Any], where: str) -> MdProtocol:
    """The section ``dynamics`` of a declaration.

    Raises
    ------
    BadParams
        A key is unknown, or a value out of range.
    """
    try:
        return MdProtocol.model_validate(content.get("dynamics", {}))
    except ValidationError as error:
        raise BadParams(f"{where}: {explain(error, MdProtocol)}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run and judge the held-out molecules; 0 when judged, whatever was found, 2 where an input is unusable."""
    protocol = load_params().dynamics
    data, student = read_dataset(Path("data/labelled.h5")), Path("data/student.safetensors")
    rows, identity = chosen(data, protocol.count, protocol.seed, "test"), student_identity(student)
    refuse_untaught(student, data, rows)
    make = partial(student_potential, student.absolute())
    root = PROGRESS / "dynamics"
    with run(data, rows, make, protocol, identity=identity, root=root, task="dynamics") as recordings:
        result = judged([recording.trajectory() for recording in recordings], protocol, identity["fingerprint"])
        write_recordings(recordings, Path("data/md.traj"))
        of_what = {"labelled_fingerprint": data.fingerprint(), "student_fingerprint": identity["fingerprint"]}
        write_json(Path("metrics/md.json"), of_what | to_json(result, protocol))
    for finding in result.report.findings:
        print(f"{finding.verdict}: {finding}")
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
