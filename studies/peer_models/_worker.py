"""Worker for one contestant, in its own process and often its own environment; imports nothing of this project.

``python -P _worker.py PEER.py CONTESTANT`` reads commands from standard input, one JSON object per line, and answers
each with lines of JSON; all output of libraries goes to standard error.

==========================================================  =========================================================
command                                                     answers
==========================================================  =========================================================
``{"do": "round", "what": "inference" or "training",        ``{"seconds", "atoms"}``: CPU-seconds of one such run
"file": NPZ, "batch": 32, "at_least": seconds}``            over the first structures of the file
``{"do": "learn", "train": NPZ, "held_out": NPZ, "every":   ``{"cpu_seconds", "force_rmse", "epochs"}`` at each
seconds, "budget": seconds, "until": eV/Å}``                evaluation on the held-out molecules; ``{"done": why}``
==========================================================  =========================================================

A peer is a file ``<name>.py`` with its requirements as inline metadata, and

- ``make(contestant, structures)``: the model with random weights; the structures are its training set.
- ``graph(model, structure)`` and ``join(graphs)``: its input for one structure, and for a batch.
- ``energy_and_forces(model, batch, training)``: (M,) eV and (N, 3) eV/Å, with the autograd graph if ``training``.
- ``optimizer(model)``, ``loss(energy, forces, true_energy, true_forces, sizes)``, ``BATCH_SIZE``, ``CLIP_NORM``,
  ``WARMUP_STEPS``, ``EMA_DECAY`` (None for no average) and ``CONSTANT_EPOCHS`` (the least number of epochs before its
  plateau schedule can change the learning rate). Not needed if the metadata has a reason ``not_trained``.
"""

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

import numpy as np
import torch

HELD_OUT_BATCH = 32


class Structure(NamedTuple):
    """A labelled structure: atomic numbers (n,), positions (n, 3) in Å, energy in eV, forces (n, 3) in eV/Å."""

    numbers: np.ndarray
    positions: np.ndarray
    energy: float
    forces: np.ndarray


class Point(NamedTuple):
    """A measurement on the held-out molecules: CPU-seconds and epochs so far, RMSE of the force components in eV/Å."""

    cpu_seconds: float
    force_rmse: float
    epochs: float


class Clock:
    """Clock of the CPU-seconds of this process and its children, except code inside ``with clock.stopped():``."""

    def __init__(self) -> None:
        self._start, self._entered = _cpu_seconds(), 0.0

    def seconds(self) -> float:
        return _cpu_seconds() - self._start

    def stopped(self) -> "Clock":
        return self

    def __enter__(self) -> None:
        self._entered = _cpu_seconds()

    def __exit__(self, *_: object) -> None:
        self._start += _cpu_seconds() - self._entered


def _cpu_seconds() -> float:
    return sum(os.times()[:4])


def write_structures(path: str | os.PathLike, structures: Iterable[Structure]) -> None:
    """Write ``structures`` to a plain NumPy archive."""
    some = list(structures)
    np.savez(
        path,
        sizes=[len(one.numbers) for one in some],
        energy=[one.energy for one in some],
        **{name: np.concatenate([getattr(one, name) for one in some]) for name in ("numbers", "positions", "forces")},
    )


def read_structures(path: str | os.PathLike) -> list[Structure]:
    """Read structures written by `write_structures`."""
    with np.load(path, allow_pickle=False) as file:
        ends = np.cumsum(file["sizes"])[:-1]
        parts = [np.split(file[name], ends) for name in ("numbers", "positions", "forces")]
        return [
            Structure(numbers, positions, float(energy), forces)
            for numbers, positions, energy, forces in zip(parts[0], parts[1], file["energy"], parts[2], strict=True)
        ]


Learn = Callable[[Mapping[str, Any]], Iterator[Point]]


def serve(peer: Any, contestant: str, learn: Learn, commands: Iterable[str], answers: TextIO) -> None:
    """Answer ``commands`` until they end.

    Parameters
    ----------
    peer : module, or an object with its names
        See the module docstring.
    contestant : str
        Name of one of its models.
    learn : callable
        Maps a command ``learn`` to its measurements.
    commands : iterable of str
        Commands, as lines of JSON.
    answers : text file
        Receives the answers, as lines of JSON.
    """
    torch.set_num_threads(1)
    prepared: dict[str, Callable[[], object]] = {}
    for line in commands:
        command = json.loads(line)
        if command["do"] == "learn":
            found = Point(0.0, float("inf"), 0.0)
            for found in learn(command):
                _say(answers, found._asdict())
                if found.force_rmse <= command["until"] or found.cpu_seconds >= command["budget"]:
                    break
            reached = found.force_rmse <= command["until"]
            spent = found.cpu_seconds >= command["budget"]
            _say(answers, {"done": "reached" if reached else "time budget used up" if spent else "training finished"})
            continue
        structures = read_structures(command["file"])[: command["batch"]]
        key = json.dumps([command[name] for name in ("what", "file", "batch")])
        if key not in prepared:
            prepared[key] = _prepared(peer, contestant, structures, training=command["what"] == "training")
        seconds = _seconds(prepared[key], command["at_least"])
        _say(answers, {"seconds": seconds, "atoms": sum(len(one.numbers) for one in structures)})


def _say(answers: TextIO, what: Mapping[str, Any]) -> None:
    numbers = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in what.items()}
    print(json.dumps(numbers, allow_nan=False), file=answers, flush=True)


def _seconds(run: Callable[[], object], at_least: float) -> float:
    """Return the CPU-seconds of one ``run``: the mean over runs that take ``at_least`` seconds in total."""
    times, start = 0, time.process_time()
    while not times or time.process_time() - start < at_least:
        run()
        times += 1
    return (time.process_time() - start) / times


def _prepared(peer: Any, contestant: str, structures: Sequence[Structure], training: bool) -> Callable[[], object]:
    """Prepare one inference of ``structures`` or one training step on them; neighbour lists are built in advance."""
    torch.manual_seed(0)
    model = peer.make(contestant, structures)
    batch = peer.join([peer.graph(model, one) for one in structures])
    if not training:
        model.eval()
        return lambda: peer.energy_and_forces(model, batch, training=False)
    model.train()
    optimizer, truth = peer.optimizer(model), _truth(structures)
    return lambda: _step(peer, model, optimizer, batch, truth)


def _truth(structures: Sequence[Structure]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return energies (M,), forces (N, 3) and sizes (M,)."""
    return (
        torch.tensor([one.energy for one in structures], dtype=torch.float64),
        torch.from_numpy(np.concatenate([one.forces for one in structures])).float(),
        torch.tensor([len(one.numbers) for one in structures]),
    )


def _step(peer: Any, model: Any, optimizer: Any, batch: Any, truth: tuple[torch.Tensor, ...]) -> None:
    optimizer.zero_grad(set_to_none=True)
    energy, forces = peer.energy_and_forces(model, batch, training=True)
    peer.loss(energy, forces, *truth).backward()
    if peer.CLIP_NORM is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), peer.CLIP_NORM)
    optimizer.step()


def learn_by_recipe(peer: Any, contestant: str, command: Mapping[str, Any]) -> Iterator[Point]:
    """Train a new model by its authors' recipe; evaluate it regularly on the held-out molecules, clock stopped.

    The clock starts before the model is made, after its libraries are imported and the structures are read.
    """
    train, held_out = read_structures(command["train"]), read_structures(command["held_out"])
    torch.manual_seed(0)
    clock, order = Clock(), np.random.default_rng(0)
    model = peer.make(contestant, train)
    graphs = [peer.graph(model, one) for one in train]
    with clock.stopped():
        questions = [peer.graph(model, one) for one in held_out]
    optimizer = peer.optimizer(model)
    rates = [group["lr"] for group in optimizer.param_groups]
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    average = [parameter.detach().clone() for parameter in weights]
    step, steps, due = 0, -(-len(train) // peer.BATCH_SIZE), command["every"]
    while step < steps * peer.CONSTANT_EPOCHS:
        for part in np.array_split(order.permutation(len(train)), steps):
            step += 1
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min(1.0, step / max(1, peer.WARMUP_STEPS))
            model.train()
            some = [train[k] for k in part]
            _step(peer, model, optimizer, peer.join([graphs[k] for k in part]), _truth(some))
            # Smaller decay in the first steps, as in torch_ema.
            decay = 0.0 if peer.EMA_DECAY is None else min(peer.EMA_DECAY, (1.0 + step) / (10.0 + step))
            torch._foreach_lerp_(average, [parameter.detach() for parameter in weights], 1.0 - decay)
            if clock.seconds() >= due:
                with clock.stopped():
                    rmse = _force_rmse(peer, model, weights, average, questions, held_out)
                yield Point(clock.seconds(), rmse, step / steps)
                due = clock.seconds() + command["every"]


def _force_rmse(
    peer: Any, model: Any, weights: list, average: list, graphs: Sequence[Any], structures: Sequence[Structure]
) -> float:
    """Return the RMSE over the components of all forces with the averaged weights, eV/Å."""
    own = [parameter.detach().clone() for parameter in weights]
    _set(weights, average)
    model.eval()
    squares: list[np.ndarray] = []
    for k in range(0, len(graphs), HELD_OUT_BATCH):
        _, forces = peer.energy_and_forces(model, peer.join(graphs[k : k + HELD_OUT_BATCH]), training=False)
        truth = np.concatenate([one.forces for one in structures[k : k + HELD_OUT_BATCH]])
        squares.append((forces.detach().double().numpy() - truth).ravel() ** 2)
    _set(weights, own)
    return float(np.sqrt(np.concatenate(squares).mean()))


def _set(weights: list, values: list) -> None:
    with torch.no_grad():
        for parameter, value in zip(weights, values, strict=True):
            parameter.copy_(value)


def answers_alone() -> TextIO:
    """Return standard output, reserved for answers: from now on all other output goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def main() -> None:
    """Serve the peer and the contestant given on the command line."""
    answers = answers_alone()
    path, contestant = sys.argv[1:]
    spec = importlib.util.spec_from_file_location("peer", path)
    assert spec is not None and spec.loader is not None
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    serve(peer, contestant, lambda command: learn_by_recipe(peer, contestant, command), sys.stdin, answers)


if __name__ == "__main__":
    main()
