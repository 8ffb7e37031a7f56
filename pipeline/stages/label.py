"""Stage ``label``: energies and forces by the teacher.

In:  ``data/structures.h5`` (positions in Å) with the token of contract ``structures``.
Out: ``data/labelled.h5``: the same structures with ``energy`` in eV and ``forces`` in eV/Å at the positions as stored;
     with ``label.dipoles`` also ``dipole`` (e·Å) and ``charges`` (e) of a teacher that gives them;
     a structure that the teacher could not label stands in its quarantine, with the teacher's own words.

Each answer is stored in ``.progress/`` when it comes, so that a killed run continues and labels nothing twice.
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

# Of a small data set: small enough that a killed run loses seconds, large enough that passing it to a worker costs
# nothing beside it. Of a large one: as large as keeps up with hundreds of workers. A teacher's batch may be larger.
STRUCTURES_PER_CHUNK = (8, 64)
CHUNKS = 4096  # beyond so many they grow
OUTPUT = Path("data/labelled.h5")


class WrongTeacher(RuntimeError):
    """A worker's teacher is not the one whose labels are asked for; the message names the worker and the difference."""


class Job(NamedTuple):
    """A structure to label, and the key that its labels are kept under."""

    key: str
    atoms: Atoms


class Answer(NamedTuple):
    """What the teacher said of a job; it is kept where it would be the same another time."""

    key: str
    stored: Stored
    lasting: bool = True


def teacher_of(params: Label) -> Teacher:
    """The teacher that ``params`` name."""
    return make_teacher(params.teacher, params.method, params.weights, params.settings)


@cache
def _teacher_here(params: str, identity: str) -> Teacher:
    """A worker's own teacher, once it is known to be the one whose labels are asked for."""
    try:
        teacher = teacher_of(Label.model_validate_json(params))
        here, asked = json.loads(_plain(teacher.identity())), json.loads(identity)
    except (OSError, ValueError, ImportError) as error:
        raise WrongTeacher(f"{_worker()}: no such teacher here: {type(error).__name__}: {error}") from error
    if here != asked:
        differences = [f"{name} {here.get(name)!r} instead of {value!r}" for name, value in asked.items()]
        differing = [text for text, name in zip(differences, asked, strict=True) if here.get(name) != asked[name]]
        raise WrongTeacher(
            f"{_worker()}: its teacher is another one: {'; '.join(differing) or here}; install the same version and "
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
    # Perhaps there was no memory for it.
    reason = "its worker process died each time while labelling it, and it alone"
    return [Answer(job.key, Stored(None, None, reason), lasting=False)]


def run(data: Dataset, params: Label, root: Path = PROGRESS, compute: Compute | None = None) -> Dataset:
    """``data`` labelled; only structures that ``root`` holds no answer for are given to the teacher.

    Raises
    ------
    WrongTeacher
        A worker's teacher is not this one.
    DamagedStore, OSError
        ``root`` cannot be used.
    ValueError
        The teacher labelled nothing at all; the message quotes its reasons.
    """
    if params.weights is not None:  # a worker's folder is another
        params = params.model_copy(update={"weights": str(Path(params.weights).absolute())})
    teacher = teacher_of(params)
    identity, dipoles = teacher.identity(), params.dipoles and teacher.dipoles
    keys = [data.structure_fingerprint(row) for row in range(len(data))]
    with LabelStore(root / "labels.sqlite", identity) as store:
        known = store.known(charges=dipoles)
        todo = {key: row for row, key in enumerate(keys) if key not in known}
        del known
        lost: dict[str, Stored] = {}  # of this run alone: the next one tries again, perhaps on a larger machine
        with progress_bar("label", total=len(keys), done=len(keys) - len(todo), unit="structures") as advance:
            for some in _answers(data, todo, params, teacher, compute or Compute()) if todo else ():
                store.add([(answer.key, answer.stored) for answer in some if answer.lasting])
                lost |= {
                    key: stored._replace(reason=f"{stored.reason}; the next run of the stage label tries it again")
                    for key, stored, lasting in some
                    if not lasting
                }
                advance(len(some))
        return _assembled(data, keys, store, lost, identity, dipoles)


def chunk_size(structures: int) -> int:
    """How many of ``structures`` a task holds, where the teacher takes them one by one."""
    least, most = STRUCTURES_PER_CHUNK
    return min(most, max(least, structures // CHUNKS))


def _answers(
    data: Dataset,
    todo: dict[str, int],
    params: Label,
    teacher: Teacher,
    compute: Compute,
) -> Iterator[list[Answer]]:
    """The teacher's answers for the rows of ``todo``, as they come; structures are made as there is room for them."""
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
    """``data`` with the answers that ``store`` holds; what has none is in the quarantine."""
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
        raise ValueError(
            f"the teacher {identity['name']} labelled none of {len(data)} structures: {'; '.join(reasons)}"
        )
    whole = replace(data, energy=energy, forces=forces, dipole=dipole, charges=charges, teacher=identity)
    kept = whole.subset(np.setdiff1d(np.arange(len(data)), list(failed))) if failed else replace(whole, first=0)
    return replace(kept, quarantine=tuple(failed.values()), n_read=len(data))


def main(argv: Sequence[str] | None = None) -> int:
    """Label ``data/structures.h5``; 0 when done, 1 where the contract has not passed, 2 where the input is unusable."""
    with locked("label"):
        for remains in OUTPUT.parent.glob(f".{OUTPUT.name}.*.tmp"):  # of a killed run
            remains.unlink()
        data = read_dataset(Path("data/structures.h5"))
        require_token("structures", data.fingerprint())
        params = load_params()
        labelled = run(data, params.label, compute=params.compute)
        try:
            write_dataset(labelled, OUTPUT)
        except OSError as error:
            raise OSError(f"{OUTPUT}: {error}; the labels are kept: make room and run the same command") from error
    print(f"{OUTPUT}: {labelled!r}; {len(labelled.quarantine)} of {labelled.n_read} quarantined")
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
