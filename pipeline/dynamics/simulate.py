"""Resumable MD: molecules run in chunks, one process each, and each chunk in segments that are saved when they end.

In:  structures (Å), a potential (eV, eV/Å), a protocol.
Out: ``ROOT/<first row of the chunk>/<segment>.npz``, each with the state at its end and the frames of its steps.

The assignment of molecules to chunks does not depend on the number of processes, and each molecule has its own random
numbers. A run that was killed and resumed, or that uses another number of cores, therefore gives the same result.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from ase import Atoms

from hydrogate.checks.metrics.bootstrap import Floats
from hydrogate.checks.metrics.md_record import MdProtocol
from hydrogate.pipeline.dynamics.trajectories import Recording
from hydrogate.pipeline.storage.hdf5 import written_whole

if TYPE_CHECKING:
    from hydrogate.models.dynamics import Molecules, Noise, Potential, State

# Batch size; with half as many molecules, a student runs a third fewer atoms per second (docs/md.md).
MOLECULES_PER_CHUNK = 10
# A killed run loses at most this many steps: seconds.
STEPS_PER_SEGMENT = 500

_FRAMES = ("frame_step", "frame_positions", "frame_velocities", "frame_energy")

MakePotential = Callable[[Sequence[Atoms]], "Potential"]
"""Function that returns the potential of a list of structures; importable by name in a worker process."""


class Start(NamedTuple):
    """Initial molecule: its row in the data (which seeds its random numbers), its name, and its atoms."""

    row: int
    name: str
    atoms: Atoms


class Segment(NamedTuple):
    """Steps ``first`` to ``last`` of one phase."""

    phase: Literal["relax", "warm_up", "nve"]
    first: int
    last: int


def segments(protocol: MdProtocol) -> list[Segment]:
    """Return all segments of a run in order; the relaxation, which usually ends early, is a single segment."""
    relax, warm_up, nve = protocol.steps

    def cut(phase: Literal["warm_up", "nve"], steps: int) -> Iterator[Segment]:
        for first in range(0, steps, STEPS_PER_SEGMENT):
            yield Segment(phase, first, min(first + STEPS_PER_SEGMENT, steps))

    return [Segment("relax", 0, relax), *cut("warm_up", warm_up), *cut("nve", nve)]


def dealt(starts: Sequence[Start]) -> list[list[Start]]:
    """Distribute ``starts`` over chunks with about the same number of atoms each."""
    chunks: list[list[Start]] = [[] for _ in range(-(-len(starts) // MOLECULES_PER_CHUNK))]
    for start in sorted(starts, key=lambda start: (-len(start.atoms), start.row)):
        open_chunks = (chunk for chunk in chunks if len(chunk) < MOLECULES_PER_CHUNK)
        min(open_chunks, key=lambda chunk: sum(len(other.atoms) for other in chunk)).append(start)
    return chunks


def student_potential(path: Path, structures: Sequence[Atoms]) -> "Potential":
    """Return the student in the file ``path`` as the potential of ``structures``.

    Raises
    ------
    FileNotFoundError, UnreadableStudent
        The student file is missing or unreadable.
    ValueError
        A structure is outside what the student was trained on, periodic, or impossible.
    """
    from hydrogate.models.dynamics import StudentPotential
    from hydrogate.models.student_file import load_student

    return StudentPotential(load_student(path), structures)


def teacher_potential(name: str, structures: Sequence[Atoms]) -> "Potential":
    """Return teacher ``name``, at its default level of theory, as the potential of ``structures``.

    Raises
    ------
    UnknownName
        There is no such teacher.
    """
    from hydrogate.models.dynamics import TeacherPotential
    from hydrogate.models.teachers import make_teacher

    return TeacherPotential(make_teacher(name), structures)


def simulate(starts: Sequence[Start], make: MakePotential, protocol: MdProtocol, root: Path) -> None:
    """Run one chunk from its last saved segment to the end, on one thread.

    Parameters
    ----------
    starts : sequence of Start
    make : callable
    protocol : MdProtocol
    root : Path
        Folder of the run.
    """
    from hydrogate.models.dynamics import Molecules, Noise, State
    from hydrogate.models.threads import one_thread

    folder, structures = _folder(starts, root), [start.atoms for start in starts]
    folder.mkdir(parents=True, exist_ok=True)
    kept, all_of_it = _kept(folder), segments(protocol)
    if len(kept) == len(all_of_it):
        return
    with one_thread(), np.errstate(all="ignore"):
        molecules, potential = Molecules.of(structures), make(structures)
        noise = Noise(molecules, [[protocol.seed, start.row] for start in starts])
        if kept:
            with np.load(kept[-1]) as content:
                state = State(*(content[name] for name in State._fields))
                noise.state = str(content["noise"])
        else:
            positions = np.concatenate([atoms.positions for atoms in structures])
            state = State.at(positions, np.zeros_like(positions), potential)
        for index in range(len(kept), len(all_of_it)):
            state, frames = _moved(all_of_it[index], state, potential, molecules, noise, protocol)
            _keep(folder / f"{index:06d}.npz", state, noise, frames)


def recordings_of(starts: Sequence[Start], protocol: MdProtocol, root: Path) -> list[Recording]:
    """Read the constant-energy frames of each molecule of a completed chunk."""
    parts = []
    for path in _kept(_folder(starts, root)):
        with np.load(path) as content:
            parts.append([content[name] for name in _FRAMES if name in content])
    step, positions, velocities, energy = map(np.concatenate, zip(*filter(None, parts), strict=True))
    ends = np.cumsum([len(start.atoms) for start in starts])[:-1]
    time = step * (protocol.time_step_fs * 1e-3)
    each = zip(starts, np.split(positions, ends, axis=1), np.split(velocities, ends, axis=1), energy.T, strict=True)
    return [Recording(start.name, start.atoms, time, *own) for start, *own in each]


def steps_done(starts: Sequence[Start], protocol: MdProtocol, root: Path) -> int:
    """Return the number of completed steps of a chunk, from its saved segments."""
    return sum(one.last - one.first for one in segments(protocol)[: len(_kept(_folder(starts, root)))])


def _folder(starts: Sequence[Start], root: Path) -> Path:
    return root / f"{starts[0].row:06d}"


def _kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npz"))


Frames = list[tuple[int, "State"]]


def _moved(
    segment: Segment,
    state: "State",
    potential: "Potential",
    molecules: "Molecules",
    noise: "Noise",
    protocol: MdProtocol,
) -> tuple["State", Frames]:
    """Return the state at the end of ``segment``, and the frames recorded in it."""
    from hydrogate.models.dynamics import Fire, Langevin, VelocityVerlet

    frames: Frames = []
    steps = range(segment.first + 1, segment.last + 1)
    if segment.phase == "relax":
        fire = Fire(molecules, protocol.relax_fmax)
        for _ in steps:
            if fire.relaxed(state).all():
                break
            state = fire.step(state, potential)
        return state._replace(velocities=molecules.maxwell_boltzmann(protocol.temperature, noise)), frames
    if segment.phase == "warm_up":
        thermostat = Langevin(molecules, protocol.time_step_fs, protocol.temperature, protocol.friction, noise)
        for step in steps:
            state = thermostat.step(state, potential)
            if step % protocol.interval == 0:
                state = _without_lost(state, molecules, protocol)
        return state, frames
    if segment.first == 0:
        state = state._replace(velocities=molecules.at_rest(state.velocities))
        frames.append((0, state))
    integrator = VelocityVerlet(molecules, protocol.time_step_fs)
    for step in steps:
        state = integrator.step(state, potential)
        if step % protocol.interval == 0 or step == protocol.steps[-1]:
            frames.append((step, state))
            state = _without_lost(state, molecules, protocol)
    return state, frames


def _without_lost(state: "State", molecules: "Molecules", protocol: MdProtocol) -> "State":
    """Set the positions of exploded molecules to NaN: integrating them further would need neighbours at every step."""
    hottest = protocol.limits.exploded_temperature * protocol.temperature
    lost = molecules.spread(~(molecules.temperature(state.velocities) <= hottest))[:, None]
    return state._replace(positions=np.where(lost, np.nan, state.positions))


def _keep(path: Path, state: "State", noise: "Noise", frames: Frames) -> None:
    arrays: dict[str, Floats] = {**state._asdict(), "noise": np.array(noise.state)}
    if frames:
        columns = [(step, one.positions, one.velocities, one.energy) for step, one in frames]
        arrays |= dict(zip(_FRAMES, map(np.stack, zip(*columns, strict=True)), strict=True))
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
