"""Stage ``label``: energies and forces from the teacher.

In:  ``data/structures.h5`` (positions in Å) with the token of contract ``structures``.
Out: ``data/labelled.h5``: the same structures with ``energy`` in eV and ``forces`` in eV/Å at the stored positions;
     with ``label.dipoles`` also ``dipole`` (e·Å) and ``charges`` (e) if the teacher predicts them.
     A structure that the teacher could not label is quarantined, with the teacher's error message as the reason.

Each label is stored in ``.progress/`` as soon as it arrives, so a killed run resumes and labels nothing twice.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms

from hydrogate.checks.data.dataset import Dataset, Quarantined
from hydrogate.models.teachers import Failure, Labels, Teacher, make_teacher
from hydrogate.pipeline.params import Compute, Label, load_params
from hydrogate.pipeline.program import progress_bar, stage_exit_status
from hydrogate.pipeline.stages.guard import require_token
from hydrogate.pipeline.storage.hdf5 import read_dataset, write_dataset
from hydrogate.pipeline.storage.resume import PROGRESS, LabelStore, Stored, locked
from hydrogate.pipeline.workers.pool import connected, over_workers

# Small data sets: small enough that a killed run loses only seconds, large enough that sending a chunk to a worker
# costs little. Large data sets: large enough to keep hundreds of workers busy. A teacher's batch may be larger.
STRUCTURES_PER_CHUNK = (8, 64)
CHUNKS = 4096  # above this number of chunks, the chunks grow
OUTPUT = Path("data/labelled.h5")


class WrongTeacher(RuntimeError):
    """A worker's teacher differs from the requested one; the message names the worker and the difference."""


class Job(NamedTuple):
    """Structure to label, and the key under which its labels are stored."""

    key: str
    atoms: Atoms


class Answer(NamedTuple):
    """Teacher's result for a job; stored only if it is ``lasting``, that is, a second run would give the same."""

    key: str
    stored: Stored
    lasting: bool = True


def teacher_of(params: Label) -> Teacher:
    """Return the teacher that ``params`` name."""
    return make_teacher(params.teacher, params.method, params.weights, params.settings)


@cache
def _teacher_here(params: str, identity: str) -> Teacher:
    """Return this worker's teacher after checking that its identity is the requested one."""
    try:
        teacher = teacher_of(Label.model_validate_json(params))
        here, asked = json.loads(_plain(teacher.identity())), json.loads(identity)
    except (OSError, ValueError, ImportError) as error:
        raise WrongTeacher(f"{_worker()}: cannot create the teacher: {type(error).__name__}: {error}") from error
    if here != asked:
        differences = [f"{name} {here.get(name)!r} instead of {value!r}" for name, value in asked.items()]
        differing = [text for text, name in zip(differences, asked, strict=True) if here.get(name) != asked[name]]
        raise WrongTeacher(
            f"{_worker()}: its teacher differs: {'; '.join(differing) or here}; install the same version and "
            "weights on every worker"
        )
    return teacher


def _worker() -> str:
    from distributed import get_worker

    return f"worker {get_worker().address}"


def _plain(identity: Any) -> str:
    return json.dumps(dict(identity), sort_keys=True)


def _stored(answer: Labels | Failure) -> Stored:
    if isinstance(answer, Failure):
        return Stored(None, None, answer.reason)
    charges = None if answer.charges is None else answer.charges.astype(np.float32)
    return Stored(answer.energy, answer.forces.astype(np.float32), "", answer.dipole, charges)


def _label_chunk(params: str, identity: str, jobs: Sequence[Job]) -> list[Answer]:
    answers = _teacher_here(params, identity).label([job.atoms for job in jobs])
    return [
        Answer(job.key, _stored(answer), not isinstance(answer, Failure) or answer.lasting)
        for job, answer in zip(jobs, answers, strict=True)
    ]


def _given_up(job: Job) -> list[Answer]:
    # It may have run out of memory.
    reason = "its worker process died each time, also when this structure was labelled alone"
    return [Answer(job.key, Stored(None, None, reason), lasting=False)]


def run(data: Dataset, params: Label, root: Path = PROGRESS, compute: Compute | None = None) -> Dataset:
    """Label ``data``; only structures without a stored label in ``root`` are sent to the teacher.

    Raises
    ------
    WrongTeacher
        A worker's teacher differs from the requested one.
    DamagedStore, OSError
        The label store in ``root`` is damaged, or cannot be read or written.
    ValueError
        The teacher labelled no structure; the message quotes its reasons.
    """
    if params.weights is not None:  # workers run in another folder
        params = params.model_copy(update={"weights": str(Path(params.weights).absolute())})
    teacher = teacher_of(params)
    identity, dipoles = teacher.identity(), params.dipoles and teacher.dipoles
    keys = [data.structure_fingerprint(row) for row in range(len(data))]
    with LabelStore(root / "labels.sqlite", identity) as store:
        known = store.known(charges=dipoles)
        todo = {key: row for row, key in enumerate(keys) if key not in known}
        del known
        lost: dict[str, Stored] = {}  # not stored: the next run tries again, perhaps on a larger machine
        with progress_bar("label", total=len(keys), done=len(keys) - len(todo), unit="structures") as advance:
            for some in _answers(data, todo, params, teacher, compute or Compute()) if todo else ():
                store.add([(answer.key, answer.stored) for answer in some if answer.lasting])
                lost |= {
                    key: stored._replace(reason=f"{stored.reason}; the next run of stage label tries it again")
                    for key, stored, lasting in some
                    if not lasting
                }
                advance(len(some))
        return _assembled(data, keys, store, lost, identity, dipoles)


def chunk_size(structures: int) -> int:
    """Return the number of structures per task, out of ``structures``, for a teacher that labels one at a time."""
    least, most = STRUCTURES_PER_CHUNK
    return min(most, max(least, structures // CHUNKS))


def _answers(
    data: Dataset,
    todo: dict[str, int],
    params: Label,
    teacher: Teacher,
    compute: Compute,
) -> Iterator[list[Answer]]:
    """Yield the teacher's results for the rows of ``todo`` as they arrive; structures are created when needed."""
    size = max(teacher.batch, chunk_size(len(todo)))
    jobs = (Job(key, data.to_atoms(row)) for key, row in todo.items())
    chunks = iter(lambda: list(islice(jobs, size)), [])
    label = partial(_label_chunk, params.model_dump_json(), _plain(teacher.identity()))
    with connected(compute, params.workers, tasks=-(-len(todo) // size)) as client:
        for results in over_workers(client, label, chunks, lost=_given_up):
            yield [answer for _, answers in results for answer in answers]


def _assembled(
    data: Dataset,
    keys: Sequence[str],
    store: LabelStore,
    lost: dict[str, Stored],
    identity: dict[str, Any],
    dipoles: bool,
) -> Dataset:
    """Return ``data`` with the stored labels; structures without labels are quarantined."""
    energy = np.full(len(data), np.nan)
    forces = np.full((len(data.numbers), 3), np.nan, np.float32)
    dipole = np.full((len(data), 3), np.nan) if dipoles else None
    charges = np.full(len(data.numbers), np.nan, np.float32) if dipoles else None
    failed: dict[int, Quarantined] = {}
    for row, key in enumerate(keys):
        answer, atoms = lost.get(key) or store.get(key), data.atoms_of(row)
        if answer.forces is None:
            failed[row] = Quarantined(str(data.source[row]), int(data.source_index[row]), answer.reason)
            continue
        energy[row], forces[atoms] = answer.energy, answer.forces
        if dipole is not None and answer.dipole is not None:
            dipole[row] = answer.dipole
        if charges is not None and answer.charges is not None:
            charges[atoms] = answer.charges
    if len(failed) == len(data):
        reasons = sorted({record.reason for record in failed.values()})[:3]
        raise ValueError(f"teacher {identity['name']} labelled none of {len(data)} structures: {'; '.join(reasons)}")
    whole = replace(data, energy=energy, forces=forces, dipole=dipole, charges=charges, teacher=identity)
    kept = whole.subset(np.setdiff1d(np.arange(len(data)), list(failed))) if failed else replace(whole, first=0)
    return replace(kept, quarantine=tuple(failed.values()), n_read=len(data))


def main(argv: Sequence[str] | None = None) -> int:
    """Label ``data/structures.h5``. Exit status: 0 done, 1 the contract has not passed, 2 invalid input."""
    with locked("label"):
        for remains in OUTPUT.parent.glob(f".{OUTPUT.name}.*.tmp"):  # left by a killed run
            remains.unlink()
        data = read_dataset(Path("data/structures.h5"))
        require_token("structures", data.fingerprint())
        params = load_params()
        labelled = run(data, params.label, compute=params.compute)
        try:
            write_dataset(labelled, OUTPUT)
        except OSError as error:
            raise OSError(
                f"{OUTPUT}: {error}; the labels are kept: free disk space and run the command again"
            ) from error
    print(f"{OUTPUT}: {labelled!r}; {len(labelled.quarantine)} of {labelled.n_read} quarantined")
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
