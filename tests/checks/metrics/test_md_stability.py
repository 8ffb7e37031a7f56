"""Synthetic trajectories: stable, broken, exploded, drifting and undecided ones."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from pydantic import ValidationError

from hydrogate.checks.findings import Report, Severity, Verdict
from hydrogate.checks.gates.gates import Gate
from hydrogate.checks.gates.gates import judge as judge_gate
from hydrogate.checks.metrics.bootstrap import Floats
from hydrogate.checks.metrics.md_record import MdProtocol, StabilityLimits, Trajectory, slope
from hydrogate.checks.metrics.md_stability import CHECKS, Judged, findings, judge, metrics

LIMITS = StabilityLimits()
FRAMES = 201


def motion(atoms: Atoms | None = None, seed: int = 0, ps: float = 10.0, **changes: object) -> Trajectory:
    """Return 10 ps at 300 K: bond lengths vary by hundredths of an Å, the energy has noise of 0.1 meV/atom."""
    atoms = molecule("CH3OH") if atoms is None else atoms
    rng = np.random.default_rng(seed)
    positions = atoms.positions + rng.normal(0.0, 0.02, (FRAMES, len(atoms), 3))
    energy = -100.0 + rng.normal(0.0, 1e-4 * len(atoms), FRAMES)
    time, temperature = np.linspace(0.0, ps, FRAMES), rng.normal(300.0, 30.0, FRAMES)
    numbers = atoms.numbers.astype(np.int64)
    made = Trajectory("methanol", numbers, atoms.positions, positions, time, energy, temperature)
    return replace(made, **changes)


def judged(of: Trajectory) -> Judged:
    return judge(of, 300.0, LIMITS)


def verdicts(of: Trajectory) -> dict[str, str]:
    return {name: str(said.verdict) for name, said in judged(of).said.items()}


def test_what_holds_together_is_stable() -> None:
    one = judged(motion())
    assert set(one.said) == set(CHECKS)
    assert {said.verdict for said in one.said.values()} == {Verdict.PASS}
    assert (one.verdict, one.broken) == (Verdict.PASS, 0)
    assert one.temperature == pytest.approx(300.0, abs=10.0)
    assert 0.0 < one.said["bonds_kept"].value < 0.2
    says = {name: said.message for name, said in one.said.items()}
    assert says["exploded"] == "did not explode"
    assert says["bonds_kept"].startswith("no bond changes by more than 0.0")
    assert says["hydrogens_kept"].startswith("no hydrogen goes beyond 1.")


def moved(atom: int, by: float, frame: int) -> Floats:
    """Return positions with the atom moved ``by`` Å away from its bonded atom, starting at ``frame``."""
    positions = motion().positions.copy()
    away = positions[:, atom] - positions[:, 0]
    away[np.linalg.norm(away, axis=1) == 0] = 1.0
    positions[frame:, atom] += by * (away / np.linalg.norm(away, axis=1, keepdims=True))[frame:]
    return positions


def test_a_bond_that_changes_breaks_and_says_when() -> None:
    of = motion(positions=moved(2, 0.7, 120))
    assert verdicts(of) | {"bonds_kept": "fail"} == verdicts(of)
    one = judged(of)
    assert one.verdict is Verdict.FAIL
    assert one.said["bonds_kept"].message.startswith("1 of 5 bonds change by more than 0.5 Å, first C0-H2 at 6.000 ps:")
    assert one.said["hydrogens_kept"].verdict is Verdict.PASS
    assert one.broken == 1


def test_a_bond_that_shrinks_breaks_too() -> None:
    assert verdicts(motion(positions=moved(1, -0.6, 5)))["bonds_kept"] == "fail"


def test_a_hydrogen_that_leaves_is_named() -> None:
    said = judged(motion(positions=moved(4, 1.6, 30))).said
    assert said["hydrogens_kept"].verdict is Verdict.FAIL
    assert "1 of 4 hydrogens leave, first C0-H4 at 1.500 ps: 2.6" in said["hydrogens_kept"].message
    assert said["exploded"].message.startswith("exploded at 1.500 ps: bond C0-H4 of 2.6")


def test_hydrogen_far_from_the_start_is_seen_although_no_bond_shows() -> None:
    atoms = molecule("CH3OH")
    atoms.positions[5] += 4.0
    assert verdicts(motion(atoms)) | {"hydrogens_kept": "fail"} == verdicts(motion(atoms))


def test_atoms_without_a_bond_to_begin_with_are_no_pass() -> None:
    atoms = Atoms("C2O2", np.arange(12).reshape(4, 3) * 300.0)
    said = judged(motion(atoms)).said["bonds_kept"]
    assert (said.verdict, said.message) == (Verdict.UNDECIDED, "4 atoms have no bond in the reference geometry")
    two = judged(motion(Atoms("He2", np.arange(6).reshape(2, 3) * 300.0))).said["bonds_kept"]
    assert (two.verdict, two.message) == (Verdict.UNDECIDED, "2 atoms have no bond in the reference geometry")
    assert verdicts(motion(Atoms("He")))["bonds_kept"] == "pass"  # a single atom has no bonds to break


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda of: replace(of, positions=_with(of.positions, np.nan)), "exploded at 4.000 ps: a position is not fin"),
        (lambda of: replace(of, positions=_with(of.positions, 1e200)), "exploded at 4.000 ps: bond C0-O1"),
        (lambda of: replace(of, temperature=_with(of.temperature, 7000.0)), "exploded at 4.000 ps: 7000 K, 300 K inte"),
        (lambda of: replace(of, temperature=_with(of.temperature, np.nan)), "exploded at 4.000 ps: nan K"),
        (lambda of: replace(of, energy=_with(of.energy, np.inf)), "exploded at 4.000 ps: its energy is not finite"),
    ],
)
def test_an_exploded_trajectory_is_called_exploded(spoil: object, why: str) -> None:
    one = judged(spoil(motion()))
    assert one.said["exploded"].verdict is Verdict.FAIL
    assert one.said["exploded"].message.startswith(why)
    assert one.verdict is Verdict.FAIL


def _with(values: Floats, value: float) -> Floats:
    spoiled = values.copy()
    spoiled[80:] = value * np.sign(spoiled[80:]) if spoiled.ndim == 3 else value
    return spoiled


@pytest.mark.parametrize("place", [np.nan, 1e200])
def test_what_has_exploded_from_the_start_is_no_pass(place: float) -> None:
    atoms = molecule("CH3OH")
    atoms.positions[2] = place
    assert judged(motion(atoms)).verdict is Verdict.FAIL


def test_two_atoms_in_one_place_are_no_pass() -> None:
    atoms = molecule("CH3OH")
    atoms.positions[2] = atoms.positions[0]
    one = judged(motion(atoms, positions=motion().positions))
    assert one.verdict is Verdict.FAIL


def test_what_explodes_first_is_told() -> None:
    of = motion(positions=moved(2, 3.0, 150))
    hot = of.temperature.copy()
    hot[100:] = 4000.0
    assert "at 5.000 ps: 4000 K" in judged(replace(of, temperature=hot)).said["exploded"].message


@pytest.mark.parametrize(
    ("missing", "not_run"),
    [
        ({"temperature": None}, {"exploded"}),
        ({"energy": None}, {"energy_drift"}),
        ({"time": None}, {"energy_drift", "duration"}),
        ({"periodic": True}, {"exploded", "bonds_kept", "hydrogens_kept"}),
    ],
)
def test_what_a_trajectory_lacks_is_not_run_and_never_passes(missing: dict[str, object], not_run: set[str]) -> None:
    one = judged(motion(**missing))
    assert {name for name, said in one.said.items() if said.verdict is Verdict.NOT_RUN} == not_run
    assert one.verdict is Verdict.NOT_RUN
    assert metrics([one])["md_stability"].value is None


def test_without_velocities_an_explosion_is_seen_all_the_same() -> None:
    assert verdicts(motion(positions=moved(4, 9.0, 30), temperature=None))["exploded"] == "fail"


def test_a_drift_beyond_the_limit_fails_and_one_near_it_is_undecided() -> None:
    def drifting(by: float, noise: float = 1.0) -> Judged:
        of = motion()
        energy = -100.0 + noise * (of.energy + 100.0) + 1e-3 * by * of.time * len(of.numbers)
        return judged(replace(of, energy=energy))

    assert drifting(0.0).said["energy_drift"].verdict is Verdict.PASS
    for by in (0.7, -0.7):
        one = drifting(by)
        assert one.drift.value == pytest.approx(by, abs=0.02)
        assert one.said["energy_drift"].verdict is Verdict.FAIL
    assert drifting(0.49, noise=5.0).said["energy_drift"].verdict is Verdict.UNDECIDED
    assert drifting(0.3, noise=300.0).said["energy_drift"].verdict is Verdict.UNDECIDED


def test_a_short_run_shows_no_stability_and_its_breaks_all_the_same() -> None:
    one = judged(motion(ps=0.5))
    assert one.said["duration"].verdict is Verdict.UNDECIDED
    assert one.said["duration"].message == "is 0.5 ps long"
    assert one.verdict is Verdict.UNDECIDED
    assert judged(motion(ps=0.5, positions=moved(2, 0.7, 120))).verdict is Verdict.FAIL


def test_too_few_frames_have_no_drift() -> None:
    of = motion()
    few = replace(of, **{name: getattr(of, name)[:19] for name in ("positions", "time", "energy", "temperature")})
    said = judged(few).said["energy_drift"]
    assert said.verdict is Verdict.UNDECIDED
    assert "19 frames, 20 finite ones needed" in said.message


def test_the_slope_is_exact_on_a_line_and_undefined_without_points() -> None:
    time = np.linspace(0.0, 3.0, 47)
    found = slope(time, 2.0 - 0.25 * time)
    assert found.value == pytest.approx(-0.25)
    assert found.half_width < 1e-12
    for x, y in ((time[:5], time[:5]), (time, np.where(time > 2, np.nan, 1.0)), (np.zeros(47), time)):
        assert np.isnan(slope(x, y)).all()


def test_a_slope_by_hand() -> None:
    # Ten blocks of two frames with means 0, 1, 0, 1, … at 0.5, 2.5, …: Σxy = 5, Σx² = 330, Σy² = 2.5.
    found = slope(np.arange(20.0), np.tile([0.0, 0.0, 1.0, 1.0], 5))
    assert found.value == pytest.approx(5 / 330)
    assert found.half_width == pytest.approx(2.306 * np.sqrt((2.5 - 25 / 330) / 8 / 330), rel=1e-3)


def test_the_interval_of_a_slope_holds_what_it_says_although_frames_know_of_each_other() -> None:
    rng, time, inside = np.random.default_rng(7), np.linspace(0.0, 1.0, 1000), 0
    for _ in range(400):
        noise = np.empty(1000)
        kicks, value = rng.normal(size=1000), 0.0
        for frame in range(1000):  # correlation time of about 10 frames
            value = 0.9 * value + kicks[frame]
            noise[frame] = value
        found = slope(time, 5.0 * time + noise)
        inside += abs(found.value - 5.0) <= found.half_width
    assert 0.92 <= inside / 400 <= 0.98


def test_energies_and_temperatures_come_from_the_velocities() -> None:
    atoms = molecule("CH3OH")
    rng = np.random.default_rng(0)
    velocities = rng.normal(0.0, 0.01, (3, len(atoms), 3)) + 0.02
    positions = np.repeat(atoms.positions[None], 3, axis=0)
    of = Trajectory.of_motion("x", atoms, positions, energy=np.zeros(3), velocities=velocities)
    for frame in range(3):
        atoms.set_velocities(velocities[frame])
        assert of.energy[frame] == pytest.approx(atoms.get_kinetic_energy())
        atoms.set_momenta(
            atoms.get_momenta() - atoms.get_masses()[:, None] * atoms.get_momenta().sum(0) / sum(atoms.get_masses())
        )
        assert of.temperature[frame] == pytest.approx(2 * atoms.get_kinetic_energy() / (15 * units.kB))
    assert (of.name, of.numbers.tolist(), of.periodic) == ("x", [6, 8, 1, 1, 1, 1], False)
    still = Trajectory.of_motion("x", atoms, positions, energy=np.zeros(3))
    assert (still.energy, still.temperature) == (None, None)
    alone = Trajectory.of_motion("x", Atoms("H"), np.zeros((2, 1, 3)), velocities=np.ones((2, 1, 3)))
    assert alone.temperature.tolist() == pytest.approx([0.0, 0.0])


STABLE, BROKEN, SHORT = motion(), motion(positions=moved(2, 0.7, 120)), motion(ps=0.5)


@pytest.mark.parametrize(
    ("runs", "value", "n"),
    [
        ([STABLE] * 20, 1.0, 20),
        ([STABLE] * 19 + [BROKEN], 0.95, 20),
        ([STABLE] * 19 + [SHORT], None, 20),
        ([SHORT] * 19 + [BROKEN], 0.0, 20),
        ([SHORT] * 20, None, 20),
        ([], None, 0),
    ],
)
def test_stability_is_shown_or_has_no_figure(runs: list[Trajectory], value: float | None, n: int) -> None:
    found = metrics([judged(of) for of in runs])["md_stability"]
    assert (found.value, found.n) == (value, n)
    gate = Gate(metric="md_stability", comparison=">=", threshold=1, required=True, confidence=0, min_n=20, reason="x")
    expected = {1.0: Verdict.PASS, None: Verdict.UNDECIDED}.get(value, Verdict.FAIL)
    assert judge_gate("md_stability", gate, found).verdict is expected


def test_metrics_of_several_molecules() -> None:
    found = metrics([judged(motion(seed=seed)) for seed in range(8)])
    assert list(found) == ["md_stability", "md_drift", "md_temperature", "md_broken_bonds"]
    assert 0.0 < found["md_drift"].low < found["md_drift"].value < found["md_drift"].high < 0.1
    assert found["md_temperature"].value == pytest.approx(300.0, abs=5.0)
    assert (found["md_broken_bonds"].value, found["md_broken_bonds"].n) == (0.0, 8)
    lost = metrics([judged(STABLE), judged(replace(STABLE, energy=None, temperature=None))])
    assert (lost["md_drift"].value, lost["md_temperature"].value) == (None, None)


def test_findings_count_molecules_and_name_those_that_fail() -> None:
    found = {f.check: f for f in findings([judged(of) for of in (STABLE, BROKEN, SHORT)], LIMITS)}
    assert list(found) == list(CHECKS)
    bonds = found["bonds_kept"]
    assert (bonds.verdict, bonds.n, bonds.n_bad) == (Verdict.FAIL, 3, 1)
    assert bonds.message.startswith("1 of 3 molecules; methanol 1 of 5 bonds change")
    assert bonds.observed["worst"] == pytest.approx(0.7, abs=0.1)
    assert found["duration"].verdict is Verdict.UNDECIDED
    assert found["duration"].severity is Severity.WARN
    assert found["exploded"].verdict is Verdict.PASS
    assert found["exploded"].observed["worst"] < 2.0
    report = Report("dynamics", "md_stability", "", tuple(found.values()))
    assert Report.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False))) == report
    assert not report.holds()


def test_each_finding_says_what_is_allowed_in_its_unit_and_what_to_do() -> None:
    found = {f.check: f for f in findings([judged(STABLE)], LIMITS)}
    assert {name: (f.allowed, f.unit) for name, f in found.items()} == {
        "exploded": ({"worst": "<= 2"}, "times"),
        "bonds_kept": ({"worst": "<= 0.5"}, "Å"),
        "hydrogens_kept": ({"worst": "<= 2.5"}, "Å"),
        "energy_drift": ({"worst": "<= 0.5"}, "meV/atom/ps"),
        "duration": ({"worst": ">= 10"}, "ps"),
    }
    assert found["energy_drift"].remedy.startswith("Typical causes: forces that are not the negative gradient")
    assert found["exploded"].remedy.startswith("Check the data first")


def test_the_worst_molecule_is_named() -> None:
    quiet = replace(STABLE, name="quiet", positions=STABLE.reference + 0.1 * (STABLE.positions - STABLE.reference))
    lost = replace(STABLE, name="lost", positions=np.full_like(STABLE.positions, np.nan))
    long = replace(STABLE, name="long", time=10 * STABLE.time)
    found = {f.check: f.message for f in findings([judged(of) for of in (quiet, long, STABLE)], LIMITS)}
    assert found["bonds_kept"].startswith("3 of 3 molecules; long no bond changes")
    assert found["duration"].startswith("3 of 3 molecules; quiet is 10 ps long")
    bad = [judged(of) for of in (BROKEN, lost, quiet)]
    assert {f.check: f.examples for f in findings(bad, LIMITS)}["bonds_kept"][0].startswith("lost ")


def test_no_molecule_is_no_pass() -> None:
    assert {f.verdict for f in findings([], LIMITS)} == {Verdict.NOT_RUN}


def test_one_molecule_that_lacks_something_keeps_a_check_from_passing() -> None:
    found = findings([judged(STABLE), judged(replace(STABLE, energy=None))], LIMITS)
    assert {f.check: f.verdict for f in found}["energy_drift"] is Verdict.NOT_RUN


def test_the_shipped_protocol_is_the_catalogues() -> None:
    protocol = MdProtocol()
    assert (protocol.count, protocol.temperature, protocol.time_step_fs) == (20, 300.0, 0.5)
    assert (protocol.warm_up_ps, protocol.nve_ps) == (2.0, 10.0)
    assert protocol.steps == (200, 4000, 20000)
    assert MdProtocol(warm_up_ps=0).steps == (200, 0, 20000)
    with pytest.raises(ValidationError, match="warm_up_ps"):
        MdProtocol(warm_up_ps=-1)
    assert protocol.limits == LIMITS
    assert (LIMITS.nve_ps, LIMITS.hydrogen_distance, LIMITS.bond_change, LIMITS.drift) == (10.0, 2.5, 0.5, 0.5)
