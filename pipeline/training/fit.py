"""Data-parallel training: one process per core or GPU, each with a part of every batch, with averaged gradients.

The processes are started here, or by ``torchrun`` on one or several machines.

Processes are used instead of threads: on two cores with little other load, two threads trained 3,100 atoms per second
and one thread 4,400, because every operation waits for the slower thread. Energies in eV, lengths in Å.
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

STRUCTURES_PER_PROCESS = 2  # minimum per batch: a compiled step is recompiled for a single structure


class Fit(NamedTuple):
    """Trained student (averaged weights of the best epoch), history by epoch, and the resources used."""

    student: Student
    best_epoch: int
    history: list[dict[str, float]]
    validation_molecules: int
    used: dict[str, Any]


def fit(data: Dataset, params: Train, angular_floor: float, state_path: Path, history: Path) -> Fit:
    """Train a student on split ``train`` of ``data`` and select the best weights on split ``valid``.

    Parameters
    ----------
    data : Dataset
        Labelled; eV, eV/Å.
    params : Train
    angular_floor : float, eV/Å
        Angles include only atoms with a teacher force of at least this.
    state_path : pathlib.Path
        Checkpoint, written after each epoch; training resumes from it if it exists.
    history : pathlib.Path
        Folder of the metrics by epoch, including those of an earlier process.

    Returns
    -------
    Fit
        The same in every process that ``torchrun`` started.

    Raises
    ------
    TrainingFailed
        See :class:`hydrogate.pipeline.training.state.TrainingFailed`.
    ValueError
        A split is empty or unlabelled; ``valid`` has an element, charge or spin multiplicity that ``train`` lacks; or
        ``torchrun`` started a number of processes that differs from ``train.processes`` or is too large for a batch.
    """
    split = split_for_training(data)
    # Invalid parameters are rejected here, before processes are started.
    loss_for(make_student(params.student, params.size, split.support), params.loss, split)
    processes = _processes(params, len(split.train))
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if TorchElasticEnvironment.detect():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        fabric = Fabric(devices=local, num_nodes=processes // local, strategy=DDPStrategy(), accelerator=accelerator)
        parent: int | None = os.getppid()
    else:
        # Needed inside a job of SLURM, LSF or MPI, whose environment variables describe other processes.
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
    # Rank 0 may remove the state once all processes have read it.
    fabric.barrier()
    if not state.best_epoch:
        raise TrainingFailed(f"none of {state.epoch} epochs ended with a finite validation loss; check the labels")
    student = make_student(params.student, params.size, split.support)
    student.load_state_dict(state.best)
    molecules = len(set(split.valid.parent.tolist()))
    return Fit(student.eval(), state.best_epoch, state.history, molecules, _used(state, student, processes))


def writes() -> bool:
    """Return True if this process writes files: always, except under ``torchrun``, where only rank 0 does."""
    return not TorchElasticEnvironment.detect() or TorchElasticEnvironment().global_rank() == 0


def _processes(params: Train, structures: int) -> int:
    """Return the number of processes: one per core or GPU, limited by the batch; under ``torchrun`` its world size."""
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
        batches = f"batches of {params.batch_size} are enough for at most {most}"
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
    """Train in one process; a failure common to all processes is returned, because a raised one loses its type."""
    torch.set_num_threads(1)
    if parent is not None:
        # A one-row gradient has two equivalent memory layouts; DistributedDataParallel warns about its choice.
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
