"""Training loop: AdamW with warm-up and cosine decay, averaged weights, best checkpoint, and resumption.

Every process runs the same code and reaches the same state. Only rank 0 writes files and logs. Lightning Fabric manages
devices, processes and gradients. Energies in eV, lengths in Å.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from hydrogate.checks.metrics.bootstrap import Statistic
from hydrogate.checks.metrics.comparison import Comparison
from hydrogate.checks.metrics.definitions import (
    Plain,
    angular_error_max_deg,
    angular_error_mean_deg,
    energy_mae_per_atom,
    force_rmse,
)
from hydrogate.models.batch import join
from hydrogate.models.compiled import CompiledRefused, compiled_share, faithfulness, verified_energy_and_forces
from hydrogate.models.objective import Labelled, Objective, dipoles_of
from hydrogate.models.potential import EnergyAndForces, Student, energy_and_forces
from hydrogate.models.students import make_student
from hydrogate.pipeline.params import Train
from hydrogate.pipeline.program import progress_bar
from hydrogate.pipeline.storage.hdf5 import written_whole
from hydrogate.pipeline.training.state import Split, State, TrainingFailed, labelled, loss_for, read_progress, units

BAD_STEPS = 5  # consecutive non-finite steps before training returns to the best weights
RETURNS = 3  # to the best weights, each at half the learning rate, before training fails
VALIDATION_BATCH = 32
COMPILE_SECONDS = 60.0  # time to compile (two cores)


class Training:
    """Training in one process, from initial weights or from the saved state."""

    def __init__(
        self, fabric: Fabric, split: Split, params: Train, angular_floor: float, state_path: Path, parent: int | None
    ) -> None:
        self.fabric, self.params, self.angular_floor = fabric, params, angular_floor
        self.state_path, self.parent, self.valid = state_path, parent, split.valid
        torch.manual_seed(params.seed)
        self.student = make_student(params.student, params.size, split.support).to(fabric.device)
        self.rows = labelled(split.train, self.student, fabric.device)
        self.units = units(self.rows, together=params.loss.hessian_weight > 0)
        self.held_out = labelled(split.valid, self.student, fabric.device)
        forces = torch.cat([row.forces for row in self.rows]).double()
        energies = np.array([row.energy.item() for row in self.rows])
        self.student.fit_references([row.batch for row in self.rows], energies, forces.square().mean().sqrt().item())
        self.objective = Objective(self.student, loss_for(self.student, params.loss, split))
        optimizer = torch.optim.AdamW(
            self.objective.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay
        )
        self.module, self.optimizer = fabric.setup(self.objective, optimizer)
        self.average = AveragedModel(self.student, multi_avg_fn=self._average)
        self.steps_per_epoch = math.ceil(len(self.rows) / params.batch_size)
        self.state = State(best=_copied(self.student))
        self.wall, self.cpu = time.monotonic(), sum(os.times()[:4])
        # All processes restore or none: a machine that cannot see the checkpoint of another fails here.
        if any(self._gathered(state_path.exists())):
            self._restore()
        else:
            self._save()

    def _average(self, averaged: Any, current: Any, count: Any) -> None:
        # Early on the average decays faster; otherwise the initial weights would dominate most of a short training.
        decay = min(self.params.ema, (1.0 + float(count)) / (10.0 + float(count)))
        torch._foreach_lerp_(averaged, current, 1.0 - decay)

    @property
    def averaged(self) -> Student:
        """Student with the averaged weights."""
        student = self.average.module
        assert isinstance(student, Student)
        return student

    def run(self, history: Path) -> None:
        """Train to the last epoch; write the metrics of each to ``history``, those of an earlier process first."""
        epochs = self.params.epochs
        with _reporting(self.fabric, history, epochs * self.steps_per_epoch, self.state.step) as (advance, report):
            for figures in self.state.history:
                report(figures)
            while self.state.epoch < epochs:
                figures = self._epoch(advance)
                report(figures)
                if not sys.stderr.isatty():
                    shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
                    self._say(f"epoch {self.state.epoch} of {epochs}: {shown}")

    def _epoch(self, advance: Callable[[int], None]) -> dict[str, float]:
        order = np.random.default_rng([self.params.seed, self.state.epoch]).permutation(len(self.units))
        losses: list[float] = []
        # Parts of nearly equal size: no structure is left out, and no last batch of one triggers a recompilation.
        for part in np.array_split(order, self.steps_per_epoch):
            self._stop_without_parent()
            of_all = [[self.rows[row] for row in self.units[unit]] for unit in part.tolist()]
            some = [row for unit in of_all[self.fabric.global_rank :: self.fabric.world_size] for row in unit]
            rate = self._rate()
            loss, finite = self._step(some, rate)
            if finite:
                losses.append(loss)
            self.state.bad = 0 if finite else self.state.bad + 1
            if self.state.bad == BAD_STEPS:
                self._return_to_best(f"{BAD_STEPS} steps in a row")
            self.state.step += 1
            self.state.atoms += sum(len(row.forces) for unit in of_all for row in unit)
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

    def _stop_without_parent(self) -> None:
        # The parent may have been killed and started again: two trainings must not write the same state.
        if self.parent is not None and os.getppid() != self.parent:
            raise SystemExit("the process that started this training has ended")

    def _rate(self) -> float:
        """Return the learning rate: linear warm-up, then half a cosine to zero at the last step."""
        total = self.params.epochs * self.steps_per_epoch
        warm = math.ceil(self.params.warmup * total)
        step = self.state.step
        shape = (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))
        return self.params.learning_rate * self.state.rate_factor * shape

    def _step(self, some: Sequence[Labelled], rate: float) -> tuple[float, bool]:
        """Return the loss of the batch, and whether a step was taken: False if loss or gradient is not finite."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.module(some)
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(
            self.module, self.optimizer, max_norm=self.params.clip_norm, error_if_nonfinite=False
        )
        reduced = self.fabric.all_reduce(loss.detach(), reduce_op="mean")
        value = reduced.item() if isinstance(reduced, Tensor) else math.nan
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
                f"weights (epoch {state.best_epoch}), each at half the learning rate; {state.skipped} steps were "
                "skipped. Check the labels (contract labels), then lower train.learning_rate "
                f"({self.params.learning_rate})"
            )
        state.bad = 0
        state.rate_factor /= 2
        self.student.load_state_dict(state.best)
        self.averaged.load_state_dict(state.best)
        self.optimizer.state.clear()
        self._say(f"not finite: {what}; back to the weights of epoch {state.best_epoch}, at half the learning rate")

    def _validated(self) -> dict[str, float]:
        """Return pooled loss and metrics of the averaged weights on split ``valid``, by plain autograd; eV, Å."""
        starts = range(0, len(self.held_out), VALIDATION_BATCH)
        mine = {
            k: energy_and_forces(self.averaged, join([row.batch for row in self.held_out[k : k + VALIDATION_BATCH]]))
            for k in starts[self.fabric.global_rank :: self.fabric.world_size]
        }
        answers = {k: answer for some in self._gathered(mine) for k, answer in some.items()}
        energy = torch.cat([answers[k][0].cpu() for k in starts])
        forces = torch.cat([answers[k][1].cpu() for k in starts])
        true_energy = torch.stack([row.energy.cpu() for row in self.held_out])
        true_forces = torch.cat([row.forces.cpu() for row in self.held_out])
        dipoles, true_dipoles = [answers[k].dipole for k in starts], dipoles_of(self.held_out)
        dipole = None if dipoles[0] is None else torch.cat(dipoles).cpu()
        true_dipole = None if true_dipoles is None else true_dipoles.cpu()
        labels = (true_energy, true_forces, torch.as_tensor(self.valid.sizes))
        numbers = torch.cat([row.batch.numbers.cpu() for row in self.held_out])
        loss = self.objective.loss(energy, forces, *labels, dipole, true_dipole, numbers=numbers)
        predicted = replace(self.valid, energy=energy.numpy(), forces=forces.numpy())
        c = Comparison.of(self.valid, predicted, angular_floor=self.angular_floor)
        figures = {
            "valid_loss": loss.item(),
            "force_rmse": _value(force_rmse(c), c),
            "energy_mae_per_atom": _value(energy_mae_per_atom(c), c),
            "angular_error_mean_deg": _value(angular_error_mean_deg(c), c),
            "angular_error_max_deg": _value(angular_error_max_deg(c), c),
        }
        if dipole is not None and true_dipole is not None:
            figures["dipole_mae"] = torch.linalg.vector_norm(dipole - true_dipole, dim=1).mean().item()
        return figures

    def _gathered(self, value: Any) -> list[Any]:
        """Return ``value`` of every process."""
        values = [value] * self.fabric.world_size
        if self.fabric.world_size > 1:
            torch.distributed.all_gather_object(values, value)
        return values

    def _account(self, figures: dict[str, float]) -> None:
        """Finish the epoch: update the best weights and the times, and save the state."""
        state = self.state
        state.epoch += 1
        state.history.append(figures)
        if figures["valid_loss"] < state.best_loss:
            state.best, state.best_epoch = _copied(self.averaged), state.epoch
            state.best_loss = figures["valid_loss"]
        elif not math.isfinite(figures["valid_loss"]):
            self._return_to_best("the validation loss")
        wall, cpu = time.monotonic(), sum(os.times()[:4])
        state.wall_seconds += wall - self.wall
        state.cpu_seconds += sum(self._gathered(cpu - self.cpu))
        self.wall, self.cpu = wall, cpu
        self._save()

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            content = {
                "state": vars(self.state),
                "student": self.student.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
            with written_whole(self.state_path) as temporary:
                torch.save(content, temporary)
        self.fabric.barrier()

    def _restore(self) -> None:
        content = read_progress(self.state_path)
        self.state = State(**content["state"])
        self.student.load_state_dict(content["student"])
        self.average.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])

    def choose_function(self) -> None:
        """Compile if required, if it saves time, or if an earlier process did; use plain autograd otherwise."""
        wanted = self.params.compile
        if wanted == "never" or (wanted == "auto" and not (self.state.compiled or self._compiling_repays())):
            self._use(None)
            return
        self._say("compiling the training step")
        batch = join([row.batch for row in self.rows[: max(2, self.params.batch_size)]])
        refused = ""
        # One after the other: the first fills the compiler cache, so that the others only read it.
        for rank in range(self.fabric.world_size):
            if rank == self.fabric.global_rank:
                try:
                    self._use(verified_energy_and_forces(self.student, batch))
                except CompiledRefused as error:
                    refused = str(error)
            self.fabric.barrier()
        refused = next(filter(None, self._gathered(refused)), "")
        if refused and wanted == "always":
            raise TrainingFailed(f"train.compile is 'always', but {refused}; set it to 'auto'")
        if refused:
            self._say(f"training by plain autograd: {refused}")
            self._use(None)

    def _use(self, compiled: EnergyAndForces | None) -> None:
        self.state.compiled = compiled is not None
        self.objective.function = compiled or self.objective.eager

    def _compiling_repays(self) -> bool:
        """Estimate if compiling saves twice its cost over the remaining steps, from the second of two eager steps."""
        for _ in range(2):
            started = time.monotonic()
            self.objective(self.rows[: math.ceil(self.params.batch_size / self.fabric.world_size)]).backward()
            step = time.monotonic() - started
        self.optimizer.zero_grad()
        to_come = self.params.epochs * self.steps_per_epoch - self.state.step
        saved = to_come * step * (1 - compiled_share(self.student, self.fabric.device.type))
        return bool(self._gathered(saved > 2 * COMPILE_SECONDS)[0])

    def _still_faithful(self, some: Sequence[Labelled]) -> bool:
        """Compare the compiled step with plain autograd again, at the current weights and after any recompilation."""
        if not self.state.compiled:
            return True
        found = faithfulness(self.student, self.objective.function, join([one.batch for one in some]))
        unfaithful = [each for each in self._gathered(found) if not each.holds]
        if unfaithful:
            self._say(f"{unfaithful[0]}: repeating epoch {self.state.epoch + 1} by plain autograd")
        return not unfaithful

    def _say(self, what: str) -> None:
        if self.fabric.is_global_zero:
            print(f"train: {what}", file=sys.stderr, flush=True)


@contextmanager
def _reporting(
    fabric: Fabric, history: Path, steps: int, done: int
) -> Iterator[tuple[Callable[[int], None], Callable[[Mapping[str, float]], None]]]:
    """Open a progress bar and a DVCLive history; yield a function to advance the bar and one to log an epoch."""
    if not fabric.is_global_zero:
        yield lambda _: None, lambda _: None
        return
    from dvclive import Live

    with (
        progress_bar("train", total=steps, done=done, unit="steps") as advance,
        Live(str(history), save_dvc_exp=False, dvcyaml=None, report=None) as live,
    ):

        def report(figures: Mapping[str, float]) -> None:
            for name, value in figures.items():
                live.log_metric(name, value)
            live.next_step()

        yield advance, report


def _value(statistic: Statistic | Plain, c: Comparison) -> float:
    return statistic.value if isinstance(statistic, Plain) else float(statistic.resampled(np.ones((1, c.molecules)))[0])


def _copied(student: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in student.state_dict().items()}
