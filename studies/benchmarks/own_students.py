"""Students as contestants against other models, with the interface that `studies.peer_models._worker` expects.

``python -m studies.benchmarks.own_students NAME`` serves student NAME with its kernels, at the sizes of
``params.yaml``, with the weights of ``data/student.safetensors`` if that file has this student. It is trained by the
pipeline's own code, in one process.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from lightning.fabric import Fabric
from torch import Tensor

from hydrogate.models.batch import Batch, join
from hydrogate.models.loss import Loss
from hydrogate.models.potential import Student, Support, energy_and_forces
from hydrogate.models.student_file import load_student, read_about
from hydrogate.models.students import make_student
from hydrogate.pipeline.params import Train, load_params
from hydrogate.pipeline.storage.hdf5 import read_dataset
from hydrogate.pipeline.training.loop import Training
from hydrogate.pipeline.training.state import Split, split_for_training
from studies.peer_models._worker import Clock, Point, Structure, answers_alone, serve

STUDENT = Path("data/student.safetensors")


@dataclass(frozen=True)
class OwnPeer:
    """Students with the interface of a peer file.

    Parameters
    ----------
    params : Train
    trained : pathlib.Path
        File of a trained student; it may be missing.
    """

    params: Train
    trained: Path = STUDENT

    @property
    def CLIP_NORM(self) -> float:
        return self.params.clip_norm

    def make(self, contestant: str, structures: Sequence[Structure]) -> Student:
        """Return the trained student if it has this name, otherwise random weights, which take the same time."""
        if self.trained.exists() and read_about(self.trained)["student"] == contestant:
            return load_student(self.trained)
        support = Support.of([_atoms(one) for one in structures])
        return make_student(contestant, self.params.sizes.get(contestant, {}), support)

    def graph(self, model: Student, structure: Structure) -> Batch:
        return model.collate([_atoms(structure)])

    def join(self, graphs: Sequence[Batch]) -> Batch:
        return join(graphs)

    def energy_and_forces(self, model: Student, batch: Batch, training: bool) -> tuple[Tensor, Tensor]:
        found = energy_and_forces(model, batch, create_graph=training)
        return found.energy, found.forces

    def optimizer(self, model: Student) -> torch.optim.Optimizer:
        params = self.params
        return torch.optim.AdamW(model.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay)

    def loss(self, *given: Tensor) -> Tensor:
        """Return the training loss without the dipole term: the structures of this benchmark have no dipoles."""
        return Loss(**self.params.loss.model_dump(exclude={"element_balance"}) | {"dipole_weight": 0.0})(*given)

    def learn(self, contestant: str, command: Mapping[str, Any]) -> Iterator[Point]:
        """Train with the pipeline's code for ``command["epochs"]`` epochs, also the length of its schedule.

        The clock starts after the data are read and is stopped during evaluation on split ``valid``.
        """
        changed = {"student": contestant, "epochs": command["epochs"], "processes": 1}
        params, data = self.params.model_copy(update=changed), read_dataset(Path(command["labelled"]))
        with tempfile.TemporaryDirectory() as folder:
            clock = Clock()
            split = split_for_training(data)
            training = _Timed(split, params, Path(folder) / "state.pt", clock, command["every"])
            training.choose_function()
            while training.state.epoch < params.epochs:
                training._epoch(lambda count: None)
                yield from training.points
                training.points.clear()


def _atoms(structure: Structure) -> Atoms:
    return Atoms(structure.numbers, structure.positions)


class _Timed(Training):
    """Training that evaluates on split ``valid`` at intervals and after each epoch, with the clock stopped."""

    def __init__(self, split: Split, params: Train, state_path: Path, clock: Clock, every: float) -> None:
        self.clock, self.every, self.due = clock, every, every
        self.points: list[Point] = []
        # Angles are not used, so the value of their floor does not matter.
        super().__init__(Fabric(accelerator="cpu", devices=1), split, params, 0.5, state_path, None)

    def _step(self, some: Any, rate: float) -> tuple[float, bool]:
        made = super()._step(some, rate)
        if self.clock.seconds() >= self.due:
            self._validated()
        return made

    def _validated(self) -> dict[str, float]:
        with self.clock.stopped():
            figures = super()._validated()
        spent = self.clock.seconds()
        self.points.append(Point(spent, figures["force_rmse"], self.state.step / self.steps_per_epoch))
        self.due = spent + self.every
        return figures


def main() -> None:
    """Serve the student given on the command line."""
    answers = answers_alone()
    (contestant,) = sys.argv[1:]
    peer = OwnPeer(load_params().train)
    serve(peer, contestant, lambda command: peer.learn(contestant, command), sys.stdin, answers)


if __name__ == "__main__":
    main()
