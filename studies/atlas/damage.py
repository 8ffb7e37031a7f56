"""Cost of a data corruption: train a student on the corrupted sample and evaluate it on clean held-out molecules.

Every student has the same budget, seed and initial weights as the one trained on the clean sample, so that the two can
be compared molecule by molecule. Energies in eV, forces in eV/Å.
"""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.findings import Verdict
from hydrogate.checks.metrics.bootstrap import Floats, Metric
from hydrogate.checks.metrics.comparison import Comparison, molecules_of
from hydrogate.checks.metrics.definitions import measure
from hydrogate.checks.metrics.md_record import MdProtocol
from hydrogate.checks.metrics.md_stability import judge
from hydrogate.checks.metrics.regression import ratios_to_baseline
from hydrogate.pipeline.dynamics.trajectories import Recording
from hydrogate.pipeline.params import Train
from hydrogate.pipeline.stages import dynamics as md
from hydrogate.pipeline.storage.hdf5 import written_whole
from hydrogate.pipeline.training import fit

# Errors on the held-out molecules, and on frames of their MD runs.
ERRORS = ("force_rmse", "force_rmse_H", "energy_mae_per_atom")
FRAMES = 5  # frames per molecule that the teacher labels
LOST = ("exploded", "bonds_kept", "hydrogens_kept")


class Task(NamedTuple):
    """A student to train and to evaluate.

    Parameters
    ----------
    key : str
        Identifies data and budget; results stored in ``place`` under this key are not computed again.
    data : Dataset
        Corrupted data, splits train and valid.
    test : Dataset
        Clean data with the teacher's labels.
    train : Train
    dynamics : MdProtocol
    angular_floor : float, eV/Å
    place : Path
    """

    key: str
    data: Dataset
    test: Dataset
    train: Train
    dynamics: MdProtocol
    angular_floor: float
    place: Path


def run(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Train and evaluate each task; predictions are stored as ``<key>.npz``. A failed training is also a result."""
    return [_run(task) for task in tasks]


def _run(task: Task) -> dict[str, Any]:
    from hydrogate.models.potential import UnsupportedStructure, predict
    from hydrogate.pipeline.training.state import TrainingFailed

    work = task.place / f"{task.key}.work"
    shutil.rmtree(work, ignore_errors=True)
    try:
        fitted = fit.fit(task.data, task.train, task.angular_floor, work / "state.pt", work / "history")
        answers = predict(fitted.student, [task.test.to_atoms(row) for row in range(len(task.test))])
        forces = np.concatenate([forces for _, forces in answers])
        held_out = _comparison(task.test, np.array([energy for energy, _ in answers]), forces)
        moved, lost = _dynamics(task, fitted.student, work)
    except (TrainingFailed, UnsupportedStructure, ValueError) as failure:
        shutil.rmtree(work, ignore_errors=True)
        return {"key": task.key, "no_student": f"{type(failure).__name__}: {failure}"}
    shutil.rmtree(work)
    with written_whole(task.place / f"{task.key}.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, **_arrays("held_out", held_out), **_arrays("moved", moved))  # type: ignore[arg-type]
    along = measure(moved)["force_rmse"] if len(moved.numbers) else Metric(None, "eV/Å", 0)
    return {
        "key": task.key,
        "cpu_seconds": fitted.used["cpu_seconds"],
        "steps": fitted.used["steps"],
        **{name: metric.to_dict() for name, metric in measure(held_out).items() if name in ERRORS},
        "md_force_rmse": along.to_dict(),
        "md_lost": lost,
    }


def ratios(place: Path, key: str, clean: str) -> dict[str, Metric]:
    """Return errors of student ``key`` divided by those of the student ``clean``, with paired intervals."""
    found: dict[str, Metric] = {}
    for part, names in (("held_out", ERRORS), ("moved", ("force_rmse",))):
        ours, theirs = _kept(place / f"{key}.npz", part), _kept(place / f"{clean}.npz", part)
        if not len(ours.numbers) or ours.molecules != theirs.molecules:
            continue
        paired = ratios_to_baseline(ours, theirs)
        found |= {name if part == "held_out" else f"md_{name}": paired[name] for name in names}
    return found


def _comparison(test: Dataset, energy: Floats, forces: Floats) -> Comparison:
    return Comparison(
        test.numbers.astype(np.int64),
        test.positions.astype(np.float64),
        test.offset,
        molecules_of(test),
        np.asarray(test.energy, dtype=np.float64),
        np.asarray(test.forces, dtype=np.float64),
        energy,
        forces,
    )


def _dynamics(task: Task, student: Any, work: Path) -> tuple[Comparison, int]:
    """Run MD with the student; return the comparison with the teacher on its frames and the number of failed runs."""
    from hydrogate.models.dynamics import StudentPotential

    rows = md.chosen(task.test, task.dynamics.count, task.dynamics.seed)
    make, identity = partial(StudentPotential, student), {"key": task.key}
    with md.run(
        task.test, rows, make, task.dynamics, identity=identity, root=work / "md", task="dynamics"
    ) as recordings:
        judged = [judge(one.trajectory(), task.dynamics.temperature, task.dynamics.limits) for one in recordings]
        lost = sum(any(one.said[name].verdict is Verdict.FAIL for name in LOST) for one in judged)
        return _along(recordings, student, task.test.teacher or {}), lost


def _along(recordings: Sequence[Recording], student: Any, stated: Any) -> Comparison:
    """Compare student and teacher on ``FRAMES`` frames of each molecule; frames without a label are skipped."""
    from hydrogate.models.potential import predict
    from hydrogate.models.teachers import Labels, make_teacher

    frames, molecules = [], []
    for index, recording in enumerate(recordings):
        for frame in np.linspace(1, len(recording.time) - 1, FRAMES).round().astype(int).tolist():
            atoms = recording.atoms.copy()  # type: ignore[no-untyped-call]
            atoms.positions = recording.positions[frame]
            if np.isfinite(atoms.positions).all():
                frames.append(atoms)
                molecules.append(index)
    answers = make_teacher(stated.get("name", "xtb"), stated.get("method")).label(frames)
    asked = zip(frames, molecules, answers, strict=True)
    known = [(atoms, molecule, answer) for atoms, molecule, answer in asked if isinstance(answer, Labels)]
    structures = [atoms for atoms, _, _ in known]
    found = predict(student, structures)
    empty = np.empty((0, 3))
    return Comparison(
        np.concatenate([np.empty(0), *(atoms.numbers for atoms in structures)]).astype(np.int64),
        np.concatenate([empty, *(atoms.positions for atoms in structures)]),
        np.concatenate([[0], np.cumsum([len(atoms) for atoms in structures])]).astype(np.int64),
        np.array([molecule for _, molecule, _ in known], dtype=np.int64),
        np.array([answer.energy for _, _, answer in known]),
        np.concatenate([empty, *(answer.forces for _, _, answer in known)]),
        np.array([energy for energy, _ in found]),
        np.concatenate([empty, *(forces for _, forces in found)]),
    )


_FIELDS = ("numbers", "positions", "offset", "molecule", "energy", "forces", "energy_predicted", "forces_predicted")


def _arrays(part: str, comparison: Comparison) -> dict[str, Floats]:
    return {f"{part}_{name}": getattr(comparison, name) for name in _FIELDS}


def _kept(path: Path, part: str) -> Comparison:
    with np.load(path) as content:
        return Comparison(*(content[f"{part}_{name}"] for name in _FIELDS))
