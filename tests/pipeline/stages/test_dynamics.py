"""Command ``hydrogate md`` and stage ``dynamics``."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import molecule
from ase.io import read, write

from hydrogate.checks.data.dataset import Dataset, concatenate
from hydrogate.checks.errors import BadParams
from hydrogate.checks.findings import Verdict
from hydrogate.checks.metrics.md_record import MdProtocol, StabilityLimits
from hydrogate.models.potential import Support
from hydrogate.models.student_file import save_student
from hydrogate.models.students import make_student
from hydrogate.pipeline.dynamics import simulate
from hydrogate.pipeline.dynamics.trajectories import read_trajectories, write_recordings
from hydrogate.pipeline.stages import dynamics as md
from hydrogate.pipeline.storage.hdf5 import write_dataset

ROOT = Path(__file__).resolve().parents[3]
SHORT = MdProtocol(count=3, warm_up_ps=0.02, nve_ps=0.1, interval=2, limits=StabilityLimits(nve_ps=0.1, drift=5.0))


@pytest.fixture
def call(call: Callable[..., Any]) -> Callable[..., Any]:
    """Call of ``hydrogate md``."""
    return partial(call, "md")


@pytest.fixture
def student(tmp_path: Path) -> Path:
    """Untrained student: its molecules fall apart."""
    torch.manual_seed(0)
    size = {"features": 8, "layers": 1, "radial": 6, "cutoff": 3.0}
    path = tmp_path / "data/student.safetensors"
    path.parent.mkdir()
    save_student(make_student("painn", size, Support((1, 6, 7, 8, 9, 16, 17))), path, {})
    return path


def springs(structures: Sequence[Atoms], constant: float = 20.0) -> Any:
    """Return a potential with springs on all distances: molecules stay intact."""
    bounds = np.cumsum([0, *map(len, structures)])
    starts = [atoms.positions for atoms in structures]
    pairs = [np.triu_indices(len(start), 1) for start in starts]
    rests = [np.linalg.norm(s[i] - s[j], axis=1) for s, (i, j) in zip(starts, pairs, strict=True)]

    def potential(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        energy, forces = np.zeros(len(structures)), np.zeros_like(positions)
        for m, ((i, j), rest) in enumerate(zip(pairs, rests, strict=True)):
            own = slice(bounds[m], bounds[m + 1])
            vector = positions[own][i] - positions[own][j]
            length = np.linalg.norm(vector, axis=1)
            energy[m] = 0.5 * constant * np.square(length - rest).sum()
            pull = (-constant * (length - rest) / length)[:, None] * vector
            np.add.at(forces[own], i, pull)
            np.add.at(forces[own], j, -pull)
        return energy, forces

    return potential


@pytest.fixture
def small() -> Dataset:
    frames = [molecule(name) for name in ("H2O", "CH4", "CH3OH")]
    return concatenate(frames, smiles=["O", "C", "CO"], split=["train", "test", "test"])


def ran(data: Dataset, protocol: MdProtocol, root: Path, make: Callable[..., Any] = springs) -> list[Any]:
    rows = md.chosen(data, protocol.count, protocol.seed)
    with md.run(data, rows, make, protocol, identity={}, root=root / "progress") as recordings:
        return recordings


def test_molecules_that_hold_together_are_stable(small: Dataset, tmp_path: Path) -> None:
    recordings = ran(small, SHORT, tmp_path)
    assert [one.positions.shape for one in recordings] == [(101, n, 3) for n in (3, 5, 6)]
    assert recordings[0].time[[0, 1, -1]] == pytest.approx([0.0, 0.001, 0.1])
    found = md.judged([one.trajectory() for one in recordings], SHORT, "")
    assert {finding.verdict for finding in found.report.findings} == {Verdict.PASS}, found.report.findings
    assert (found.metrics["md_stability"].value, found.metrics["md_stability"].n) == (1.0, 3)
    assert 50.0 < found.metrics["md_temperature"].value < 900.0
    for one in recordings:
        momenta = one.atoms.get_masses()[:, None] * one.velocities[-1]
        assert np.abs(momenta.sum(axis=0)).max() < 1e-9


def test_equal_seed_equal_run(small: Dataset, tmp_path: Path) -> None:
    one, same = ran(small, SHORT, tmp_path), ran(small, SHORT, tmp_path)
    other = ran(small, SHORT.model_copy(update={"seed": 1}), tmp_path)
    assert np.array_equal(one[0].positions, same[0].positions)
    assert not np.array_equal(one[0].positions, other[0].positions)


class Stopping:
    """Spring potential that is interrupted at call number ``at``."""

    def __init__(self, at: int) -> None:
        self.calls, self.at = 0, at

    def __call__(self, structures: Sequence[Atoms]) -> Any:
        potential = springs(structures)

        def stopping(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            self.calls += 1
            if self.calls == self.at:
                raise KeyboardInterrupt
            return potential(positions)

        return stopping


# Interrupted in the relaxation, the warm-up, and the first and the last steps at constant energy.
@pytest.mark.parametrize("at", [2, 30, 60, 230])
def test_a_killed_run_goes_on_where_it_was(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(simulate, "STEPS_PER_SEGMENT", 20)
    protocol = SHORT.model_copy(update={"relax_steps": 10})
    whole = Stopping(0)
    expected = ran(small, protocol, tmp_path, whole)
    with pytest.raises(KeyboardInterrupt):
        ran(small, protocol, tmp_path, Stopping(at))
    rest = Stopping(0)
    found = ran(small, protocol, tmp_path, rest)
    assert rest.calls <= whole.calls - at + 20 + 2, "what was computed was computed again"
    for one, other in zip(expected, found, strict=True):
        assert np.array_equal(one.positions, other.positions)
        assert np.array_equal(one.velocities, other.velocities)
        assert np.array_equal(one.time, other.time)
        assert np.array_equal(one.energy, other.energy)
    assert not (tmp_path / "progress").exists()


def test_what_was_kept_of_another_run_is_not_taken(small: Dataset, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ran(small, SHORT, tmp_path, Stopping(230))
    other = SHORT.model_copy(update={"temperature": 100.0})
    again = Stopping(0)
    assert ran(small, other, tmp_path, again)[0].energy[0] != ran(small, SHORT, tmp_path)[0].energy[0]
    assert again.calls > 240


def test_the_number_of_processes_changes_nothing(
    student: Path, small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate, "MOLECULES_PER_CHUNK", 1)
    protocol = SHORT.model_copy(update={"nve_ps": 0.02, "relax_steps": 2})
    make = partial(simulate.student_potential, student)
    over = ran(small, protocol, tmp_path, make)
    monkeypatch.setattr(md, "over_processes", lambda function, chunks: enumerate(map(function, chunks)))
    for one, other in zip(over, ran(small, protocol, tmp_path, make), strict=True):
        assert np.array_equal(one.positions, other.positions)


def test_molecules_are_dealt_in_chunks_of_equal_size() -> None:
    starts = [simulate.Start(row, "", Atoms(["H"] * size)) for row, size in enumerate([40, 3, 8, 9, 30, 12, 18] * 3)]
    chunks = simulate.dealt(starts)
    assert sorted(start.row for chunk in chunks for start in chunk) == list(range(21))
    assert [len(chunk) for chunk in chunks] == [7, 7, 7]
    assert [sum(len(start.atoms) for start in chunk) for chunk in chunks] == [120, 120, 120]
    assert simulate.dealt(starts[:3]) == [[starts[0], starts[2], starts[1]]]


def test_one_that_explodes_leaves_the_others_alone(small: Dataset, tmp_path: Path) -> None:
    def spoil(structures: Sequence[Atoms]) -> Any:
        potential, calls = springs(structures), iter(range(10**6))

        def spoiled(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            energy, forces = potential(positions)
            if next(calls) > 100:
                forces[6] *= -50.0  # the C of CH4, which comes after CH3OH because the largest molecule is first
            return energy, forces

        return spoiled

    recordings = ran(small, SHORT, tmp_path, spoil)
    found = md.judged([one.trajectory() for one in recordings], SHORT, "")
    exploded = {finding.check: finding for finding in found.report.findings}["exploded"]
    assert (exploded.verdict, exploded.n_bad) == (Verdict.FAIL, 1)
    assert exploded.examples[0].startswith("structure 1 (CH4) exploded at 0.0")
    assert found.metrics["md_stability"].value == pytest.approx(2 / 3)
    assert np.isnan(recordings[1].positions[-1]).any()
    assert np.isfinite(recordings[2].positions).all()


def test_one_geometry_of_each_molecule_is_taken(labelled: Dataset) -> None:
    held_out = np.flatnonzero(labelled.split == "test")
    rows = md.chosen(labelled, 100, 0, "test")
    assert len(rows) == len(set(labelled.smiles[held_out].tolist())) < len(held_out)
    assert set(rows) <= set(held_out.tolist())
    assert (labelled.parent[rows] == rows).all()
    few = md.chosen(labelled, 3, 0, "test")
    assert len(few) == 3
    assert few != md.chosen(labelled, 3, 1, "test")
    with pytest.raises(ValueError, match="no structure to run dynamics of"):
        md.chosen(labelled, 3, 0, "nowhere")


@pytest.mark.parametrize("suffix", [".traj", ".extxyz"])
def test_what_is_written_is_judged_as_what_was_run(small: Dataset, tmp_path: Path, suffix: str) -> None:
    small = concatenate([small.to_atoms(row) for row in (0, 2, 2)], smiles=["O", "CO", "CCO"])
    recordings = ran(small, SHORT, tmp_path)
    path = tmp_path / f"out{suffix}"
    write_recordings(recordings, path)
    found = read_trajectories(path)
    assert [one.name for one in found] == [one.name for one in recordings]
    for one, expected in zip(found, (one.trajectory() for one in recordings), strict=True):
        for name in ("reference", "positions", "time", "energy", "temperature"):
            assert np.allclose(getattr(one, name), getattr(expected, name), atol=1e-6), name
    before, after = (md.judged(t, SHORT, "") for t in ([one.trajectory() for one in recordings], found))
    assert [f.verdict for f in before.report.findings] == [f.verdict for f in after.report.findings]


def test_an_exploded_run_is_written_up_to_where_it_ends(small: Dataset, tmp_path: Path) -> None:
    (one,) = ran(small.subset([2]), SHORT, tmp_path)
    positions = one.positions.copy()
    positions[40:] = np.nan
    write_recordings([one._replace(positions=positions)], tmp_path / "lost.traj")
    (found,) = read_trajectories(tmp_path / "lost.traj")
    assert len(found.positions) == 41
    assert "exploded at 0.040 ps: a position is not finite" in str(md.judged([found], SHORT, "").report.findings[0])


def test_the_command_runs_a_student_and_refuses_one_that_breaks(
    call: Callable[..., Any], student: Path, small: Dataset, tmp_path: Path
) -> None:
    write(tmp_path / "some.extxyz", [small.to_atoms(row) for row in range(3)])
    options = ("--warm-up-ps", "0.01", "--nve-ps", "0.1", "--count", "2", "--temperature", "2000")
    result = call("some.extxyz", "-o", "out.traj", *options)
    assert result.status == 1, result.err
    assert "contract dynamics FAILED: " in result.out
    assert "of 2 molecules; structure " in result.out
    frames = read(tmp_path / "out.traj", ":")
    assert frames[0].info["phase"] == "input"
    assert len(frames) > 10
    result = call("some.extxyz", "-o", "out.traj", *options)
    assert result.status == 2
    assert "already exists" in result.err


def test_the_command_runs_a_teacher(call: Callable[..., Any], small: Dataset, tmp_path: Path) -> None:
    write(tmp_path / "one.extxyz", [small.to_atoms(0)])
    result = call("one.extxyz", "-o", "out.extxyz", "--teacher", "xtb", "--warm-up-ps", "0", "--nve-ps", "0.02",
                  "--interval", "1", "--format", "json")  # fmt: skip
    report = json.loads(result.out)
    assert report["checks"]["exploded"]["verdict"] == "pass"
    assert report["checks"]["bonds_kept"]["verdict"] == "pass"
    assert report["summary"]["metrics"]["md_stability"]["value"] == "undefined"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("some.extxyz",), "give either -o, a file for the frames, or --judge"),
        (("some.extxyz", "--judge", "-o", "x.traj"), "give either -o, a file for the frames, or --judge"),
        (("some.extxyz", "-o", "x.pdb"), "unknown suffix '.pdb'"),
        (("some.extxyz", "-o", "x.traj", "--nve-ps", "nan"), "nve_ps"),
        (("some.extxyz", "-o", "x.traj", "--count", "0"), "count"),
        (("some.extxyz", "-o", "x.traj", "--teacher", "xtp"), "did you mean 'xtb'"),
        (("some.extxyz", "-o", "x.traj", "--teacher", ""), "unknown teacher ''"),
        (("some.extxyz", "-o", "x.traj", "--nve-ps", "1e308"), "need inf steps of 0.5 fs; the limit is 1e+08"),
        (("some.extxyz", "-o", "x.traj", "--time-step", "1e-9"), "steps of 1e-09 fs; the limit is 1e+08"),
        (("some.extxyz", "-o", "some.extxyz", "--force"), "would overwrite an input file"),
        (("some.extxyz", "-o", "some.extxyz/x.traj"), "cannot write to"),
        (("some.extxyz", "-o", "x.traj", "--split", "test"), "no structure to run dynamics of"),
        (("some.extxyz", "-o", "x.traj", "--student", "no.safetensors"), "no such file"),
        (
            ("dense.extxyz", "-o", "x.traj"),
            "structure 0 (H2000, dense.extxyz record 0): about 1999 neighbours per atom",
        ),
        (("strange.extxyz", "-o", "x.traj"), "structure 1 (H4Si, strange.extxyz record 1): structure 0 has element Si"),
    ],
)
def test_a_call_that_cannot_be_used_is_refused_before_any_work(
    call: Callable[..., Any], student: Path, tmp_path: Path, arguments: tuple[str, ...], why: str
) -> None:
    write(tmp_path / "some.extxyz", [molecule("H2O")])
    write(tmp_path / "strange.extxyz", [molecule("H2O"), molecule("SiH4")])
    write(tmp_path / "dense.extxyz", Atoms("H2000", np.random.default_rng(0).uniform(0, 2, (2000, 3))))
    result = call(*arguments)
    assert result.status == 2
    assert why in result.err
    assert not (tmp_path / "x.traj").exists()


def test_the_limits_are_those_of_params_yaml(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("dynamics: {nve_ps: 0.2, limits: {drift: 0.25}}")
    found = md.declared({"count": 3}, path)
    assert (found.count, found.nve_ps, found.limits.drift, found.limits.nve_ps) == (3, 10.0, 0.25, 10.0)
    path.write_text("dynamics: {limits: {drfit: 0.25}}")
    with pytest.raises(BadParams, match=r"unknown key limits.drfit; did you mean 'drift'"):
        md.declared({}, path)
    path.write_text("dynamics: {nve_ps: 1.0e6}")
    with pytest.raises(BadParams, match=r"need 2e\+09 steps of 0\.5 fs; the limit is 1e\+08"):
        md.declared({}, path)


def test_the_stage_writes_metrics_of_what_it_ran(
    student: Path, labelled: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset(replace(labelled), tmp_path / "data/labelled.h5")
    protocol = {"count": 2, "warm_up_ps": 0.005, "nve_ps": 0.02, "relax_steps": 5}
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"dynamics": protocol}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    assert md.main() == 0
    content = json.loads((tmp_path / "metrics/md.json").read_text())
    assert content["labelled_fingerprint"] == labelled.fingerprint()
    assert len(content["student_fingerprint"]) == 64
    assert (content["structures"], content["nve_ps"]) == (2, 0.02)
    assert content["teacher_drift"].startswith("not_run")
    assert content["note"].startswith("0.02 ps of MD are too short to show stability, 10 ps are needed")
    assert {"md_stability", "md_drift", "md_temperature", "md_broken_bonds"} <= set(content)
    assert len(read_trajectories(tmp_path / "data/md.traj")) == 2
    first = (tmp_path / "metrics/md.json").read_bytes()
    assert md.main() == 0
    assert (tmp_path / "metrics/md.json").read_bytes() == first
