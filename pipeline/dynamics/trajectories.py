"""Trajectory files: several molecules in one file, each preceded by the geometry that defines its bonds.

The keys are ASE's, plus three in ``info``: ``molecule`` (from 0), ``phase`` (``input`` or ``nve``) and ``time_ps``.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from hydrogate.checks.errors import UnreadableData
from hydrogate.checks.metrics.bootstrap import Floats
from hydrogate.checks.metrics.md_record import Trajectory
from hydrogate.pipeline.storage.hdf5 import UnreadableFile, written_whole

SUFFIXES = (".traj", ".extxyz", ".xyz")


class Recording(NamedTuple):
    """Trajectory of one molecule with T frames.

    Parameters
    ----------
    name : str
    atoms : ase.Atoms
        Input geometry.
    time : (T,), ps
    positions : (T, n, 3), Å
    velocities : (T, n, 3), ASE's unit
    energy : (T,), eV
        Potential energy.
    """

    name: str
    atoms: Atoms
    time: Floats
    positions: Floats
    velocities: Floats
    energy: Floats

    def trajectory(self) -> Trajectory:
        """Convert to the trajectory that the stability checks judge."""
        return Trajectory.of_motion(
            self.name, self.atoms, self.positions, time=self.time, energy=self.energy, velocities=self.velocities
        )


def write_recordings(recordings: Sequence[Recording], path: Path) -> None:
    """Write ``recordings`` to ``path`` atomically; frames after the first non-finite one are left out."""
    from ase.io import write

    frames = [atoms for index, recording in enumerate(recordings) for atoms in _frames(index, recording)]
    with written_whole(path) as temporary:
        write(temporary, frames, format="traj" if path.suffix == ".traj" else "extxyz")


def _frames(index: int, recording: Recording) -> Iterator[Atoms]:
    about = {"molecule": index, "name": recording.name}
    first = recording.atoms.copy()  # type: ignore[no-untyped-call]
    first.info |= about | {"phase": "input"}
    yield first
    for time, positions, velocities, energy in zip(*recording[2:], strict=True):
        atoms = recording.atoms.copy()  # type: ignore[no-untyped-call]
        atoms.positions = positions
        atoms.set_velocities(velocities)
        atoms.calc = SinglePointCalculator(atoms, energy=float(energy))  # type: ignore[no-untyped-call]
        atoms.info |= about | {"phase": "nve", "time_ps": float(time)}
        yield atoms
        if not np.isfinite(positions).all():
            return


def read_trajectories(path: Path, frame_fs: float | None = None) -> list[Trajectory]:
    """Read the molecules of any trajectory that ASE reads; a new one starts where number or elements change.

    Parameters
    ----------
    path : Path
    frame_fs : float, fs, optional
        Time between frames, if the file does not store times.

    Raises
    ------
    FileNotFoundError, UnreadableFile, UnreadableData
        The file does not exist, ASE cannot read it, or it has no frames.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    frames = _read(path)
    if not frames:
        raise UnreadableData(f"{path}: no frames")
    groups = groupby(frames, key=lambda atoms: (str(atoms.info.get("molecule")), atoms.numbers.tobytes()))
    return [_trajectory(path, index, list(group), frame_fs) for index, (_, group) in enumerate(groups)]


def _read(path: Path) -> list[Atoms]:
    from ase.io import read

    try:
        found = read(path, index=":", do_not_split_by_at_sign=True)
    # For a damaged file ASE may raise any exception: KeyError, struct.error, AttributeError, AssertionError, …
    except Exception as error:
        raise UnreadableFile(f"{path}: cannot be read as a trajectory: {type(error).__name__}: {error}") from error
    return [found] if isinstance(found, Atoms) else list(found)


def _trajectory(path: Path, index: int, frames: list[Atoms], frame_fs: float | None) -> Trajectory:
    first = frames[0]
    name = f"{first.info.get('name') or f'molecule {index} ({first.get_chemical_formula()}, {path.name})'}"  # type: ignore[no-untyped-call]
    if first.info.get("phase") == "input":
        frames = frames[1:]
    if not frames or not len(first):
        raise UnreadableData(f"{path}: {name} has no frames to judge, or no atoms")
    stated = [atoms.info.get("time_ps") for atoms in frames]
    time: Floats | None = None
    if all(one is not None for one in stated):
        try:
            time = np.array(stated, dtype=np.float64).reshape(len(frames))
        except ValueError as error:
            raise UnreadableData(f"{path}: {name}: time_ps is not a number: {error}") from error
    elif frame_fs is not None:
        time = np.arange(len(frames), dtype=np.float64) * (frame_fs * 1e-3)
    results = [getattr(atoms.calc, "results", {}) for atoms in frames]
    known = all("energy" in result for result in results)
    moving = all("momenta" in atoms.arrays for atoms in frames)
    return Trajectory.of_motion(
        name,
        first,
        np.stack([atoms.positions for atoms in frames]),
        time=time,
        energy=np.array([float(result["energy"]) for result in results]) if known else None,
        velocities=np.stack([atoms.get_velocities() for atoms in frames]) if moving else None,  # type: ignore[no-untyped-call]
    )
