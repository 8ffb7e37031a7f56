"""The training loop: AdamW with warm-up and cosine, an average of the weights, the best checkpoint, and resumption.

Lightning Fabric holds the device, the precision and the checkpoints. Energies in eV, lengths in Å.
"""

import math
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from hydrogate.checks.comparison import Comparison
from hydrogate.checks.dataset import Dataset
from hydrogate.checks.metrics import angular_error_max_deg, angular_error_mean_deg, energy_mae_per_atom, force_rmse
from hydrogate.models.batch import collate, join
from hydrogate.models.compiled import CompiledRefused, faithfulness, verified_energy_and_forces
from hydrogate.models.loss import Loss
from hydrogate.models.objective import Labelled, Objective
from hydrogate.models.potential import EnergyAndForces, Student, Support, energy_and_forces
from hydrogate.models.students import make_student
from hydrogate.pipeline.hdf5 import written_whole
from hydrogate.pipeline.params import Train
from hydrogate.pipeline.stage import progress_bar

BAD_STEPS = 5  # in a row not finite, before the best weights are taken up again
RETURNS = 3  # to the best weights, each at half the rate, before training gives up
VALIDATION_BATCH = 32
COMPILE_SECONDS = 60.0  # what compiling costs, and what share of an eager step a compiled one takes (two cores)
COMPILED_STEP = 0.35
OnEpoch = Callable[[Mapping[str, float]], None]


class TrainingFailed(RuntimeError):
    """No usable student came out: the loss stayed not finite, or the demanded compiler does not work."""


class Fit(NamedTuple):
    """A trained student (its averaged weights at the best epoch), the history by epoch, and what it took."""

    student: Student
    best_epoch: int
    history: list[dict[str, float]]
    validation_molecules: int
    used: dict[str, Any]


@dataclass
class State:
    """With the weights and the optimizer: what a later process needs to end as this one would have ended."""

    best: dict[str, Tensor]
    epoch: int = 0
    step: int = 0
    rate_factor: float = 1.0
    returns: int = 0
    skipped: int = 0
    bad: int = 0
    compiled: bool = False
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    atoms: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    history: list[dict[str, float]] = field(default_factory=list)


def fit(data: Dataset, params: Train, angular_floor: float, state_path: Path, on_epoch: OnEpoch) -> Fit:
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
    on_epoch : callable
        Gets the figures of each epoch in order, those of an earlier process included.

    Raises
    ------
    TrainingFailed
        See there.
    ValueError
        A split is empty or unlabelled, or ``valid`` holds an element, charge or spin multiplicity that ``train`` lacks.
    """
    with _threads(params.threads):
        training = Training(data, params, angular_floor, state_path)
        training.choose_function()
        return training.run(on_epoch)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or len(os.sched_getaffinity(0)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Training:
    """One training, from fresh weights or from its saved state."""

    def __init__(self, data: Dataset, params: Train, angular_floor: float, state_path: Path) -> None:
        self.params, self.angular_floor, self.state_path = params, angular_floor, state_path
        train, self.valid = _split(data, "train"), _split(data, "valid")
        torch.manual_seed(params.seed)
        support = Support.of([train.to_atoms(row) for row in range(len(train))])
        self.student = make_student(params.student, params.size, support)
        fabric = Fabric(devices=1)
        self.fabric = fabric
        self.rows = _labelled(train, self.student.cutoff, fabric.device)
        held_out = _labelled(self.valid, self.student.cutoff, fabric.device)
        starts = range(0, len(held_out), VALIDATION_BATCH)
        self.valid_batches = [join([row.batch for row in held_out[k : k + VALIDATION_BATCH]]) for k in starts]
        self.valid_forces, self.valid_energy = (
            torch.cat([row.forces for row in held_out]),
            torch.stack([row.energy for row in held_out]),
        )
        for k, batch in zip(starts, self.valid_batches, strict=True):
            support.refuse_others(batch, f"{params.student} (split 'train')", k)
        forces = torch.cat([row.forces for row in self.rows]).double()
        energies = np.array([row.energy.item() for row in self.rows])
        self.student.fit_references([row.batch for row in self.rows], energies, forces.square().mean().sqrt().item())
        self.objective = Objective(self.student, Loss(**params.loss.model_dump()))
        optimizer = torch.optim.AdamW(
            self.objective.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay
        )
        self.module, self.optimizer = fabric.setup(self.objective, optimizer)
        self.average = AveragedModel(self.student, multi_avg_fn=self._average)
        self.steps_per_epoch = math.ceil(len(self.rows) / params.batch_size)
        self.state = State(best=_copied(self.student))
        self.wall, self.cpu = time.monotonic(), sum(os.times()[:4])
        if state_path.exists():
            self._restore()
        else:
            self._save()

    def _average(self, averaged: Any, current: Any, count: Any) -> None:
        # A young average forgets faster, or it would hold on to the fresh weights for most of a short training.
        decay = min(self.params.ema, (1.0 + float(count)) / (10.0 + float(count)))
        torch._foreach_lerp_(averaged, current, 1.0 - decay)

    @property
    def averaged(self) -> Student:
        """The student with the averaged weights."""
        student = self.average.module
        assert isinstance(student, Student)
        return student

    def run(self, on_epoch: OnEpoch) -> Fit:
        """Train to the last epoch."""
        state, epochs = self.state, self.params.epochs
        for figures in state.history:
            on_epoch(figures)
        steps = epochs * self.steps_per_epoch
        with progress_bar("train", total=steps, done=state.step, unit="steps") as advance:
            while self.state.epoch < epochs:
                figures = self._epoch(advance)
                on_epoch(figures)
                if not sys.stderr.isatty():
                    shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
                    print(f"epoch {self.state.epoch} of {epochs}: {shown}", file=sys.stderr, flush=True)
        state, best = self.state, self.averaged
        best.load_state_dict(state.best)
        used = {
            "steps": state.step,
            "parameters": sum(p.numel() for p in self.student.parameters()),
            "compiled": state.compiled,
            "skipped_steps": state.skipped,
            "returns_to_best": state.returns,
            "cpu_seconds": round(state.cpu_seconds, 1),
            "wall_seconds": round(state.wall_seconds, 1),
            "atoms_per_second": round(state.atoms / state.wall_seconds, 1),
        }
        molecules = len(set(self.valid.parent.tolist()))
        return Fit(best.cpu().eval(), state.best_epoch, state.history, molecules, used)

    def _epoch(self, advance: Callable[[int], None]) -> dict[str, float]:
        order = np.random.default_rng([self.params.seed, self.state.epoch]).permutation(len(self.rows))
        losses: list[float] = []
        # Parts of nearly equal size: no structure is left out, and no last batch of one makes the compiler start anew.
        for part in np.array_split(order, self.steps_per_epoch):
            some = [self.rows[row] for row in part.tolist()]
            rate = self._rate()
            loss, finite = self._step(some, rate)
            if finite:
                losses.append(loss)
            self.state.bad = 0 if finite else self.state.bad + 1
            if self.state.bad == BAD_STEPS:
                self._return_to_best(f"{BAD_STEPS} steps in a row")
            self.state.step += 1
            self.state.atoms += sum(len(one.forces) for one in some)
            advance(1)
        if not self._still_faithful(some):
            advance(-self.steps_per_epoch)
            self._restore()
            self._use(None)
            return self._epoch(advance)
        train_loss = float(np.mean(losses)) if losses else math.nan
        figures = {"train_loss": train_loss, **self._validated(), "learning_rate": rate}
        self._account(figures)
        return figures

    def _rate(self) -> float:
        """Linear warm-up, then half a cosine to zero at the last step."""
        total = self.params.epochs * self.steps_per_epoch
        warm = math.ceil(self.params.warmup * total)
        step = self.state.step
        shape = (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))
        return self.params.learning_rate * self.state.rate_factor * shape

    def _step(self, some: Sequence[Labelled], rate: float) -> tuple[float, bool]:
        """The loss of ``some``, and whether a step was made: not where the loss or the gradient is not finite."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.module(some)
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(
            self.module, self.optimizer, max_norm=self.params.clip_norm, error_if_nonfinite=False
        )
        value = loss.item()
        finite = math.isfinite(value) and norm is not None and math.isfinite(norm.item())
        if finite:
            self.optimizer.step()
            self.average.update_parameters(self.student)
        else:
            self.state.skipped += 1
        self.optimizer.zero_grad()
        return value, finite

    def _return_to_best(self, what: str) -> None:
        state = self.state
        state.returns += 1
        if state.returns > RETURNS:
            raise TrainingFailed(
                f"training is not finite: {what} in epoch {state.epoch + 1}, after {RETURNS} returns to the best "
                f"weights (epoch {state.best_epoch}) at half the rate each; {state.skipped} steps were skipped. "
                f"Look at the labels (contract labels), then lower train.learning_rate ({self.params.learning_rate})"
            )
        state.bad = 0
        state.rate_factor /= 2
        self.student.load_state_dict(state.best)
        self.averaged.load_state_dict(state.best)
        self.optimizer.state.clear()
        _say(
            f"not finite: {what} in epoch {state.epoch + 1}; back to the weights of epoch {state.best_epoch}, half rate"
        )

    def _validated(self) -> dict[str, float]:
        """Loss and metrics of the averaged weights on the split ``valid``, by plain autograd; pooled, in eV and Å."""
        answers = [energy_and_forces(self.averaged, batch) for batch in self.valid_batches]
        energy, forces = torch.cat([e for e, _ in answers]), torch.cat([f for _, f in answers])
        sizes = torch.as_tensor(self.valid.sizes, device=energy.device)
        loss = self.objective.loss(energy, forces, self.valid_energy, self.valid_forces, sizes).item()
        predicted = replace(self.valid, energy=energy.cpu().numpy(), forces=forces.cpu().numpy(), _cache={})
        c = Comparison.of(self.valid, predicted, angular_floor=self.angular_floor)
        once = np.ones((1, c.molecules))
        figures = {"valid_loss": loss}
        for metric in (force_rmse, energy_mae_per_atom, angular_error_mean_deg):
            statistic = metric(c)
            figures[metric.__name__] = statistic if isinstance(statistic, float) else statistic.resampled(once).item()
        return figures | {"angular_error_max_deg": angular_error_max_deg(c)}

    def _account(self, figures: dict[str, float]) -> None:
        """Close the epoch: the best weights, the time that it took, the state on disk."""
        state = self.state
        state.epoch += 1
        state.history.append(figures)
        if figures["valid_loss"] < state.best_loss:
            state.best, state.best_epoch, state.best_loss = (
                _copied(self.averaged),
                state.epoch,
                figures["valid_loss"],
            )
        elif not math.isfinite(figures["valid_loss"]):
            self._return_to_best("the validation loss")
        wall, cpu = time.monotonic(), sum(os.times()[:4])
        state.wall_seconds += wall - self.wall
        state.cpu_seconds += cpu - self.cpu
        self.wall, self.cpu = wall, cpu
        self._save()

    def _save(self) -> None:
        with written_whole(self.state_path) as temporary:
            self.fabric.save(
                temporary,
                {
                    "state": vars(self.state),
                    "student": self.student.state_dict(),
                    "average": self.average.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                },
            )

    def _restore(self) -> None:
        try:
            content = self.fabric.load(self.state_path, weights_only=True)
            self.state = State(**content["state"])
            self.student.load_state_dict(content["student"])
            self.average.load_state_dict(content["average"])
            self.optimizer.load_state_dict(content["optimizer"])
        except (OSError, RuntimeError, KeyError, TypeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise TrainingFailed(
                f"{self.state_path}: progress that cannot be continued ({error}); delete it to train from the start"
            ) from error

    def choose_function(self) -> None:
        """Compile where that is demanded, or repays itself, or an earlier process did; plain autograd otherwise."""
        wanted = self.params.compile
        if wanted == "never" or (wanted == "auto" and not (self.state.compiled or self._compiling_repays())):
            self._use(None)
            return
        _say("compiling the training step")
        batch = join([row.batch for row in self.rows[: max(2, self.params.batch_size)]])
        try:
            self._use(verified_energy_and_forces(self.student, batch))
        except CompiledRefused as error:
            if wanted == "always":
                raise TrainingFailed(f"train.compile is 'always', but {error}; set it to 'auto'") from error
            _say(f"training by plain autograd: {error}")
            self._use(None)

    def _use(self, compiled: EnergyAndForces | None) -> None:
        self.state.compiled = compiled is not None
        self.objective.function = compiled or self.objective.eager

    def _compiling_repays(self) -> bool:
        """Whether the steps to come save twice what compiling costs, by the second of two steps by plain autograd."""
        for _ in range(2):
            started = time.monotonic()
            self.module(self.rows[: self.params.batch_size]).backward()
            step = time.monotonic() - started
        self.optimizer.zero_grad()
        to_come = self.params.epochs * self.steps_per_epoch - self.state.step
        return to_come * step * (1 - COMPILED_STEP) > 2 * COMPILE_SECONDS

    def _still_faithful(self, some: Sequence[Labelled]) -> bool:
        """Compare the compiled step with plain autograd again, at the weights of now; whatever was recompiled."""
        if not self.state.compiled:
            return True
        found = faithfulness(self.student, self.objective.function, join([one.batch for one in some]))
        if not found.holds:
            _say(f"{found}: epoch {self.state.epoch + 1} is done again by plain autograd")
        return found.holds


def _split(data: Dataset, name: str) -> Dataset:
    chosen = data.subset(np.flatnonzero(data.split == name))
    if not len(chosen) or chosen.energy is None or chosen.forces is None:
        missing = "labels" if len(chosen) else "structures"
        raise ValueError(
            f"split {name!r} has no {missing} to train with ({data!r}); see regenerate.split and stage label"
        )
    return chosen


def _labelled(data: Dataset, cutoff: float, device: torch.device) -> list[Labelled]:
    """The structures of ``data`` with their edges, found once: the geometry is fixed."""
    assert data.energy is not None and data.forces is not None  # `_split` refuses others
    return [
        Labelled(
            collate([data.to_atoms(row)], cutoff).to(device, torch.float32),
            torch.tensor(data.energy[row], device=device),
            torch.from_numpy(data.forces[data.atoms_of(row)]).to(device),
        )
        for row in range(len(data))
    ]


def _copied(student: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in student.state_dict().items()}


def _say(what: str) -> None:
    print(f"train: {what}", file=sys.stderr, flush=True)
