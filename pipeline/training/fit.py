"""Training over processes: one a core or a GPU, each with a part of every batch, gradients averaged between them.

They are started here, or by ``torchrun``, on one machine or several.

Processes, not threads: on two cores with little else running two threads trained 3,100 atoms a second and one thread
4,400, because every operation waits for the slower thread. Energies in eV, lengths in Å.
"""

import math
import os
import warnings
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy

from hydrogate.checks.data.dataset import Dataset
from hydrogate.models.potential import Student, UnsupportedStructure
from hydrogate.models.students import make_student
from hydrogate.models.threads import one_thread
from hydrogate.pipeline.params import Train
from hydrogate.pipeline.training.loop import Training
from hydrogate.pipeline.training.state import Split, State, TrainingFailed, loss_for, read_state, split_for_training

STRUCTURES_PER_PROCESS = 2  # of a batch, at least: a compiled step starts anew for one


class Fit(NamedTuple):
    """A trained student (its averaged weights at the best epoch), the history by epoch, and what it took."""

    student: Student
    best_epoch: int
    history: list[dict[str, float]]
    validation_molecules: int
    used: dict[str, Any]


def fit(data: Dataset, params: Train, angular_floor: float, state_path: Path, history: Path) -> Fit:
    """Train a student on split ``train`` of ``data`` and choose its best weights on split ``valid``.

    Parameters
    ----------
    data : Dataset
        Labelled; eV, eV/Å.
    params : Train
    angular_floor : float, eV/Å
        Angles count for atoms with a teacher force of at least this.
    state_path : pathlib.Path
        Written after each epoch; continued from where it exists.
    history : pathlib.Path
        Folder of the figures by epoch, those of an earlier process included.

    Returns
    -------
    Fit
        To each process that ``torchrun`` started, the same.

    Raises
    ------
    TrainingFailed
        See there.
    ValueError
        A split is empty or unlabelled, or ``valid`` holds an element, charge or spin multiplicity that ``train`` lacks;
        or ``torchrun`` started another number of processes than is declared, or more than a batch can feed.
    """
    split = split_for_training(data)
    # Refused here, before there are processes.
    loss_for(make_student(params.student, params.size, split.support), params.loss, split)
    processes = _processes(params, len(split.train))
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if TorchElasticEnvironment.detect():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        fabric = Fabric(devices=local, num_nodes=processes // local, strategy=DDPStrategy(), accelerator=accelerator)
        parent: int | None = os.getppid()
    else:
        # Also inside a job of SLURM, LSF or MPI, whose variables tell of other processes than these.
        several = DDPStrategy(start_method="spawn", cluster_environment=LightningEnvironment())
        strategy = "auto" if processes == 1 else several
        fabric = Fabric(devices=processes, strategy=strategy, accelerator=accelerator)
        parent = None if processes == 1 else os.getpid()
    with one_thread():
        work = partial(_work, split=split, params=params, angular_floor=angular_floor, state_path=state_path)
        failure = fabric.launch(partial(work, history=history, parent=parent))
    if failure is not None:
        raise failure
    state = read_state(state_path)
    # The first process may remove the state once all have read it.
    fabric.barrier()
    if not state.best_epoch:
        raise TrainingFailed(f"no epoch of {state.epoch} ended with a finite validation loss; look at the labels")
    student = make_student(params.student, params.size, split.support)
    student.load_state_dict(state.best)
    molecules = len(set(split.valid.parent.tolist()))
    return Fit(student.eval(), state.best_epoch, state.history, molecules, _used(state, student, processes))


def writes() -> bool:
    """Whether this process is the one that writes: not where ``torchrun`` started it as another than the first."""
    return not TorchElasticEnvironment.detect() or TorchElasticEnvironment().global_rank() == 0


def _processes(params: Train, structures: int) -> int:
    """As many as there are cores or GPUs, unless that leaves one too little of a batch; under ``torchrun`` its own."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    machine = torch.cuda.device_count() or cores
    steps = math.ceil(structures / params.batch_size)
    most = max(1, structures // steps // STRUCTURES_PER_PROCESS)
    if not TorchElasticEnvironment.detect():
        return min(params.processes or machine, most)
    started = TorchElasticEnvironment().world_size()
    if params.processes not in (0, started):
        raise ValueError(
            f"torchrun started {started} processes, but train.processes is {params.processes}; set it to 0"
        )
    if started > most:
        batches = f"batches of {params.batch_size} feed at most {most}"
        raise ValueError(f"torchrun started {started} processes, but {batches}: start fewer or raise train.batch_size")
    return started


def _work(
    fabric: Fabric,
    split: Split,
    params: Train,
    angular_floor: float,
    state_path: Path,
    history: Path,
    parent: int | None,
) -> Exception | None:
    """What each process does; a failure that all meet alike is returned, because a raised one loses its type."""
    torch.set_num_threads(1)
    if parent is not None:
        # A gradient of one row may be laid out either way; the data-parallel wrapper warns that it had to choose.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    try:
        training = Training(fabric, split, params, angular_floor, state_path, parent)
        training.choose_function()
        training.run(history)
    except (TrainingFailed, UnsupportedStructure) as failure:
        return failure
    return None


def _used(state: State, student: Student, processes: int) -> dict[str, Any]:
    return {
        "steps": state.step,
        "parameters": sum(p.numel() for p in student.parameters()),
        "processes": processes,
        "compiled": state.compiled,
        "skipped_steps": state.skipped,
        "returns_to_best": state.returns,
        "cpu_seconds": round(state.cpu_seconds, 1),
        "wall_seconds": round(state.wall_seconds, 1),
        "atoms_per_second": round(state.atoms / state.wall_seconds, 1),
    }
