"""Stage ``dynamics``: whether molecular dynamics with the student holds together, for the gate ``md_stability``.

In:  ``data/labelled.h5``, ``data/student.safetensors``; Å, eV, fs and ps.
Out: ``data/md.traj``, the frames; ``metrics/md.json``, metrics and verdicts with the fingerprints of what was run.

Molecules of the held-out split, relaxed, warmed up by Langevin dynamics and left to themselves at constant energy, all
in one batch. A run shorter than ``limits.nve_ps`` finds what breaks; it shows no stability.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ase import Atoms
from pydantic import ValidationError

from hydrogate.checks.bootstrap import Metric
from hydrogate.checks.comparison import molecules_of
from hydrogate.checks.dataset import Dataset, concatenate
from hydrogate.checks.declared import BadParams, explain, load_yaml
from hydrogate.checks.dynamics import findings, judge, metrics
from hydrogate.checks.findings import Report
from hydrogate.checks.trajectory import MdProtocol, Trajectory
from hydrogate.pipeline.hdf5 import read_dataset, written_whole
from hydrogate.pipeline.predict import student_identity
from hydrogate.pipeline.stage import progress_bar, stage_exit_status
from hydrogate.pipeline.trajectories import Recording, write_recordings

if TYPE_CHECKING:
    from hydrogate.models.dynamics import Molecules, Potential, State


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


def student_potential(path: Path, data: Dataset, rows: Sequence[int]) -> "Potential":
    """The student in the file ``path`` for the structures ``rows`` of ``data``.

    Raises
    ------
    FileNotFoundError, UnreadableStudent
        There is no such student.
    ValueError
        The student was not taught one of the structures, or it is periodic or impossible; it is named.
    """
    from hydrogate.models.dynamics import StudentPotential
    from hydrogate.models.potential import load_student

    student, structures = load_student(path), [data.to_atoms(row) for row in rows]
    for row, atoms in zip(rows, structures, strict=True):
        try:
            StudentPotential(student, [atoms])
        except ValueError as error:
            raise ValueError(f"{data.name(row)}: {error}") from error
    return StudentPotential(student, structures)


def teacher_potential(name: str, data: Dataset, rows: Sequence[int]) -> "Potential":
    """The teacher ``name`` at its default level of theory for the structures ``rows`` of ``data``.

    Raises
    ------
    UnknownName
        No such teacher.
    """
    from hydrogate.models.dynamics import TeacherPotential
    from hydrogate.models.teachers import make_teacher

    return TeacherPotential(make_teacher(name), [data.to_atoms(row) for row in rows])


def run(
    data: Dataset, rows: Sequence[int], potential: "Potential", protocol: MdProtocol, task: str = "md"
) -> list[Recording]:
    """The dynamics of the structures ``rows`` of ``data``: the run at constant energy, frame by frame.

    Parameters
    ----------
    data : Dataset
    rows : sequence of int
    potential : Potential
        Of these structures, in this order.
    protocol : MdProtocol
    task : str
        What the progress bar calls it.
    """
    from hydrogate.models.dynamics import Fire, Langevin, Molecules, State, VelocityVerlet

    structures = [data.to_atoms(row) for row in rows]
    molecules, rng = Molecules.of(structures), np.random.default_rng(protocol.seed)
    relax, warm_up, nve = protocol.steps
    with progress_bar(task, total=relax + warm_up + nve, unit="steps") as advance, np.errstate(all="ignore"):
        positions = np.concatenate([atoms.positions for atoms in structures])
        state = State.at(positions, np.zeros_like(positions), potential)
        fire = Fire(molecules, protocol.relax_fmax)
        for _ in range(relax):
            if not fire.relaxed(state).all():
                state = fire.step(state, potential)
            advance(1)
        state = state._replace(velocities=molecules.maxwell_boltzmann(protocol.temperature, rng))
        thermostat = Langevin(molecules, protocol.time_step_fs, protocol.temperature, protocol.friction, rng)
        for step in range(1, warm_up + 1):
            state = thermostat.step(state, potential)
            if step % protocol.interval == 0:
                state = _without_lost(state, molecules, protocol)
            advance(1)
        state = state._replace(velocities=molecules.at_rest(state.velocities))
        steps, frames = [0], [state]
        integrator = VelocityVerlet(molecules, protocol.time_step_fs)
        for step in range(1, nve + 1):
            state = integrator.step(state, potential)
            if step % protocol.interval == 0 or step == nve:
                steps.append(step)
                frames.append(state)
                state = _without_lost(state, molecules, protocol)
            advance(1)
    return [
        Recording(
            data.name(row),
            atoms,
            np.array(steps) * (protocol.time_step_fs * 1e-3),
            np.stack([frame.positions[own] for frame in frames]),
            np.stack([frame.velocities[own] for frame in frames]),
            np.array([frame.energy[index] for frame in frames]),
        )
        for index, (row, atoms) in enumerate(zip(rows, structures, strict=True))
        for own in [slice(*molecules.offset[index : index + 2].tolist())]
    ]


def _without_lost(state: "State", molecules: "Molecules", protocol: MdProtocol) -> "State":
    """Molecules that exploded are no longer moved: their flying atoms would cost neighbours at every step."""
    hottest = protocol.limits.exploded_temperature * protocol.temperature
    lost = molecules.spread(~(molecules.temperature(state.velocities) <= hottest))[:, None]
    return state._replace(positions=np.where(lost, np.nan, state.positions))


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
    protocol = read_protocol(load_yaml(Path("params.yaml")), "params.yaml")
    data, path = read_dataset(Path("data/labelled.h5")), Path("data/student.safetensors")
    rows = chosen(data, protocol.count, protocol.seed, "test")
    recordings = run(data, rows, student_potential(path, data, rows), protocol, "dynamics")
    identity = student_identity(path)["fingerprint"]
    trajectories = [recording.trajectory() for recording in recordings]
    result = judged(trajectories, protocol, identity)
    write_recordings(recordings, Path("data/md.traj"))
    of_what = {"labelled_fingerprint": data.fingerprint(), "student_fingerprint": identity}
    with written_whole(Path("metrics/md.json")) as temporary:
        content = json.dumps(of_what | to_json(result, protocol), indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(content + "\n", encoding="utf-8")
    for finding in result.report.findings:
        print(f"{finding.verdict}: {finding}")
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
