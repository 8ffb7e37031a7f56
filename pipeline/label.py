"""Stage ``label``: energies and forces by the teacher.

In:  ``data/structures.h5`` (positions in Å) with the token of contract ``structures``.
Out: ``data/labelled.h5``: the same structures with ``energy`` in eV and ``forces`` in eV/Å at the positions as stored;
     with ``label.dipoles`` also ``dipole`` (e·Å) and ``charges`` (e) of a teacher that gives them;
     a structure that the teacher could not label stands in its quarantine, with the teacher's own words.

Each answer is stored in ``.progress/`` when it comes, so that a killed run continues and labels nothing twice.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from hydrogate.checks.dataset import Dataset, Quarantined
from hydrogate.models.teachers import Failure, Labels, Teacher, make_teacher
from hydrogate.pipeline.compute import over_processes
from hydrogate.pipeline.guard import require_token
from hydrogate.pipeline.hdf5 import read_dataset, write_dataset
from hydrogate.pipeline.params import Label, load_params
from hydrogate.pipeline.progress import LabelStore, Stored, locked
from hydrogate.pipeline.stage import progress_bar, stage_exit_status

# Small enough that a killed run loses seconds, large enough that passing it to a worker costs nothing beside it.
STRUCTURES_PER_CHUNK = 8


class _Job(NamedTuple):
    params: Label
    key: str
    atoms: Atoms


@cache
def _teacher(params: Label) -> Teacher:
    return make_teacher(params.teacher, params.method, params.weights)


def _stored(answer: Labels) -> Stored:
    charges = None if answer.charges is None else answer.charges.astype(np.float32)
    return Stored(answer.energy, answer.forces.astype(np.float32), "", answer.dipole, charges)


def _label_chunk(jobs: Sequence[_Job]) -> list[tuple[str, Stored]]:
    answers = _teacher(jobs[0].params).label([job.atoms for job in jobs])
    return [
        (job.key, Stored(None, None, answer.reason)) if isinstance(answer, Failure) else (job.key, _stored(answer))
        for job, answer in zip(jobs, answers, strict=True)
    ]


def run(data: Dataset, params: Label, root: Path = Path(".progress")) -> Dataset:
    """``data`` labelled; only structures that ``root`` holds no answer for are given to the teacher.

    Raises
    ------
    AlreadyRunning
        Another process labels here.
    ValueError
        The teacher labelled nothing at all; the message quotes its reasons.
    """
    teacher = make_teacher(params.teacher, params.method, params.weights)
    identity, dipoles = teacher.identity(), params.dipoles and teacher.dipoles
    keys = [data.structure_fingerprint(row) for row in range(len(data))]
    with locked("label", root), LabelStore(root / "labels.sqlite", identity) as store:
        known = store.known(charges=dipoles)
        todo = {key: row for row, key in enumerate(keys) if key not in known}
        jobs = [_Job(params, key, data.to_atoms(row)) for key, row in todo.items()]
        chunks = [jobs[k : k + STRUCTURES_PER_CHUNK] for k in range(0, len(jobs), STRUCTURES_PER_CHUNK)]
        with progress_bar("label", total=len(keys), done=len(keys) - len(jobs), unit="structures") as advance:
            for _, labelled_chunk in over_processes(_label_chunk, chunks, workers=params.workers):
                store.add(labelled_chunk)
                advance(len(labelled_chunk))
        answers = [store.get(key) for key in keys]
    labelled = [row for row, answer in enumerate(answers) if answer.forces is not None]
    failed = tuple(
        Quarantined(str(data.source[row]), int(data.source_index[row]), answers[row].reason)
        for row in range(len(data))
        if answers[row].forces is None
    )
    if not labelled:
        reasons = sorted({record.reason for record in failed})[:3]
        raise ValueError(
            f"the teacher {identity['name']} labelled none of {len(data)} structures: {'; '.join(reasons)}"
        )
    dipole, charges = _dipoles([answers[row] for row in labelled], data.sizes[labelled]) if dipoles else (None, None)
    return replace(
        data.subset(labelled),
        dipole=dipole,
        charges=charges,
        energy=np.array([answers[row].energy for row in labelled], dtype=np.float64),
        forces=np.concatenate([answers[row].forces for row in labelled]),
        teacher=identity,
        quarantine=failed,
        n_read=len(data),
    )


def _dipoles(answers: Sequence[Stored], sizes: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """The columns ``dipole`` and ``charges``; NaN where there is none."""
    dipole = [np.full(3, np.nan) if answer.dipole is None else answer.dipole for answer in answers]
    charges = [
        np.full(size, np.nan, np.float32) if answer.charges is None else answer.charges
        for answer, size in zip(answers, sizes.tolist(), strict=True)
    ]
    return np.stack(dipole), np.concatenate(charges)


def main(argv: Sequence[str] | None = None) -> int:
    """Label ``data/structures.h5``; 0 when done, 1 where the contract has not passed, 2 where the input is unusable."""
    data = read_dataset(Path("data/structures.h5"))
    require_token("structures", data.fingerprint())
    labelled = run(data, load_params().label)
    write_dataset(labelled, Path("data/labelled.h5"))
    print(f"data/labelled.h5: {labelled!r}; {len(labelled.quarantine)} of {labelled.n_read} quarantined")
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
