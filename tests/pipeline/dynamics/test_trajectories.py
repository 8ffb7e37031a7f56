"""Command ``hydrogate md --judge`` on existing trajectories."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.io import write
from ase.md.verlet import VelocityVerlet

from hydrogate.checks.errors import UnreadableData
from hydrogate.pipeline.dynamics.trajectories import read_trajectories


@pytest.fixture
def judge(call: Callable[..., Any]) -> Callable[..., Any]:
    """Call of ``hydrogate md --judge``."""
    return partial(call, "md", "--judge")


def of_somebody(path: Path) -> None:
    """Write an ASE trajectory of N2 with EMT."""
    atoms = Atoms("N2", [[0, 0, 0], [0, 0, 1.1]], calculator=EMT())
    atoms.set_velocities([[0, 0, 0.01], [0, 0, -0.01]])
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs, trajectory=str(path), loginterval=2)
    dynamics.run(100)
    dynamics.close()


def test_somebody_elses_trajectory(judge: Callable[..., Any], tmp_path: Path) -> None:
    of_somebody(tmp_path / "theirs.traj")
    result = judge("theirs.traj", "--time-step", "0.5", "--interval", "2", "--format", "json")
    report = json.loads(result.out)
    verdicts = {name: check["verdict"] for name, check in report["checks"].items()}
    assert verdicts["bonds_kept"] == verdicts["exploded"] == "pass"
    assert verdicts["energy_drift"] != "not_run"
    assert report["checks"]["duration"]["observed"]["worst"] == pytest.approx(0.05)
    result = judge("theirs.traj")
    assert result.status == 1
    assert "check energy_drift: molecule 0 (N2, theirs.traj) has no times" in result.out
    assert "md_stability: undefined (n = 1)" in result.out


def test_what_somebodys_file_lacks_is_said(judge: Callable[..., Any], tmp_path: Path) -> None:
    frames = [molecule("CH3OH") for _ in range(30)]
    write(tmp_path / "bare.xyz", frames, format="xyz")
    result = judge("bare.xyz", "--time-step", "400", "--format", "json")
    assert result.status == 1
    verdicts = {name: check["verdict"] for name, check in json.loads(result.out)["checks"].items()}
    assert verdicts == {"exploded": "not_run", "bonds_kept": "pass", "hydrogens_kept": "pass",
                        "energy_drift": "not_run", "duration": "pass"}  # fmt: skip


def test_somebodys_explosion_is_called_that(judge: Callable[..., Any], tmp_path: Path) -> None:
    frames = [molecule("CH3OH") for _ in range(30)]
    for index, atoms in enumerate(frames[10:]):
        atoms.positions[3] += 40.0 * index
    write(tmp_path / "stable.traj", frames)
    result = judge("stable.traj", "--format", "markdown")
    assert result.status == 1
    assert "exploded in frame 11: bond" in result.out.replace("\\", "")


def test_molecules_in_one_file_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "two.extxyz", [molecule("H2O")] * 3 + [molecule("CH4")] * 2)
    assert [one.positions.shape for one in read_trajectories(tmp_path / "two.extxyz")] == [(3, 3, 3), (2, 5, 3)]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("none.traj", None, "no such file"),
        ("torn.traj", b"- of Ulm nonsense", "torn.traj: cannot be read as a trajectory"),
        ("empty.extxyz", b"", "empty.extxyz:"),
        # ASE would read beyond the end of the file, or allocate memory for all columns.
        ("many.xyz", b"1000000000000\n\nH 0 0 0\n", "many.xyz: a frame claims 1000000000000 atoms"),
        ("wide.extxyz", b"1\nProperties=species:S:1:pos:R:3:x:R:1000000000\nH 0 0 0\n", "1000000000 columns per atom"),
    ],
)
def test_an_unusable_trajectory_is_refused(
    judge: Callable[..., Any], tmp_path: Path, name: str, content: bytes | None, why: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = judge(name)
    assert result.status == 2
    assert why in result.err
    assert "Traceback" not in result.err


def test_an_at_sign_belongs_to_the_name(tmp_path: Path) -> None:
    write(tmp_path / "run@300K.traj", [molecule("H2O")] * 3)
    assert len(read_trajectories(tmp_path / "run@300K.traj")) == 1


@pytest.mark.parametrize("stated", ["soon", [0.0, 1.0]])
def test_a_time_that_is_no_number_is_named(tmp_path: Path, stated: object) -> None:
    frames = [molecule("H2O") for _ in range(3)]
    for atoms in frames:
        atoms.info["time_ps"] = stated
    write(tmp_path / "odd.traj", frames)
    with pytest.raises(UnreadableData, match=r"odd\.traj: .* time_ps is not a number"):
        read_trajectories(tmp_path / "odd.traj")


def test_a_pipe_is_refused_and_not_waited_for(judge: Callable[..., Any], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.traj")
    result = judge("pipe.traj")
    assert result.status == 2
    assert "pipe.traj: a pipe or a device" in result.err
