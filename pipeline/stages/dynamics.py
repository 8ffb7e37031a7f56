"""Stage ``dynamics``: stability of molecular dynamics (MD) with the student, for the gate ``md_stability``.

In:  ``data/labelled.h5``, ``data/student.safetensors``; Å, eV, fs and ps.
Out: ``data/md.traj``, the frames; ``metrics/md.json``, metrics and verdicts with the fingerprints of the inputs.

Molecules of the held-out split are relaxed, warmed up by Langevin dynamics and then run at constant energy
(:mod:`hydrogate.pipeline.dynamics.simulate`). A run shorter than ``limits.nve_ps`` can show that a molecule is
unstable, but not that it is stable.
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
    """Result of the stage: the report with the verdicts, and the metrics over all molecules."""

    report: Report
    metrics: dict[str, Metric]

    def lines(self) -> list[str]:
        """Return the metrics as text, one line each."""
        return [f"{name}: {metric}" for name, metric in self.metrics.items()]


def chosen(data: Dataset, count: int, seed: int, split: str = "") -> list[int]:
    """Draw at most ``count`` molecules of ``split`` ("" is all) at random; return one row per molecule, sorted.

    Raises
    ------
    ValueError
        There is no structure.
    """
    rows = np.flatnonzero(data.split == split) if split else np.arange(len(data))
    if not len(rows):
        raise ValueError(f"no structure to run dynamics of ({data!r}{f', split {split!r}' if split else ''})")
    _, first = np.unique(molecules_of(data)[rows], return_index=True)
    drawn = np.random.default_rng(seed).permutation(len(first))[:count]
    return sorted(rows[first[drawn]].tolist())


def refuse_untaught(student: Path, data: Dataset, rows: Sequence[int]) -> None:
    """Raise unless the student in the file ``student`` can run MD of the structures ``rows`` of ``data``.

    Raises
    ------
    FileNotFoundError, UnreadableStudent
        The student file is missing or unreadable.
    ValueError
        A structure is outside what the student was trained on, periodic, or impossible; the message names it.
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
    """Return the identity of teacher ``name`` at its default level of theory.

    Raises
    ------
    UnknownName
        There is no such teacher.
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
    """Run MD of the structures ``rows`` of ``data`` and yield the frames of the constant-energy phase.

    Completed segments stay in ``root`` until the block ends without an error; after a kill the same call resumes.

    Parameters
    ----------
    data : Dataset
    rows : sequence of int
    make : callable
        Returns the potential of a list of structures.
    protocol : MdProtocol
    identity : mapping
        Identity of the potential; the files of a different run in ``root`` are removed.
    root : Path
    task : str
        Label of the progress bar.

    Raises
    ------
    AlreadyRunning
        Another process is running in ``root``.
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
    """Return a hash of everything that a run depends on."""
    how = protocol.model_dump(exclude={"count", "limits"})
    said = [structures, list(rows), how, protocol.limits.exploded_temperature, dict(identity), STEPS_PER_SEGMENT]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def _watched(done: Callable[[], int], advance: Callable[[int], None]) -> Iterator[None]:
    """Call ``advance`` once a second with the increase of ``done``; worker processes report progress only by files."""
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
    """Return the verdict of each check over all molecules, and the metrics.

    Parameters
    ----------
    trajectories : sequence of Trajectory
    protocol : MdProtocol
        Target temperature and limits.
    fingerprint : str
        Fingerprint of what was judged.
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
    """Return the content of ``metrics/md.json``: plain finite numbers and strings."""
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
    """Return why a run of ``protocol`` is too short to show stability; empty if it is long enough."""
    if protocol.nve_ps >= protocol.limits.nve_ps:
        return ""
    return (
        f"{protocol.nve_ps:g} ps of MD are too short to show stability, {protocol.limits.nve_ps:g} ps are needed: "
        f"python3 -m nox -s repro -- -S dynamics.nve_ps={protocol.limits.nve_ps:g} -S dynamics.warm_up_ps=2"
    )


def declared(given: Mapping[str, Any], path: Path = Path("params.yaml")) -> MdProtocol:
    """Return the default protocol with the values ``given`` and with the limits that ``path`` declares, if any.

    Raises
    ------
    BadParams
        A value is out of range, or ``path`` declares an unknown key.
    """
    content = load_yaml(path) if path.exists() else {}
    limits = read_protocol(content, str(path)).limits
    return read_protocol({"dynamics": {**given, "limits": limits}}, "hydrogate md")


def read_protocol(content: Mapping[str, Any], where: str) -> MdProtocol:
    """Read and validate the section ``dynamics`` of ``content``.

    Raises
    ------
    BadParams
        A key is unknown, or a value is out of range.
    """
    try:
        return MdProtocol.model_validate(content.get("dynamics", {}))
    except ValidationError as error:
        raise BadParams(f"{where}: {explain(error, MdProtocol)}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run MD of the held-out molecules and judge it. Exit status: 0 judged, stable or not; 2 invalid input."""
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
