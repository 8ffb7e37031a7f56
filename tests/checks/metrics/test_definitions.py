"""Every metric by hand, undefined cases, and earlier mistakes with metrics of this kind."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from hydrogate.checks.metrics.bootstrap import Metric
from hydrogate.checks.metrics.comparison import Comparison
from hydrogate.checks.metrics.definitions import convergence, measure, metric_names


def compare(symbols, forces, predicted, *, sizes=None, energy=None, energy_predicted=None, **options):
    """Return a comparison of structures taken from a row of atoms more than 20 Å apart."""
    count = len(symbols)
    sizes = sizes or [count]
    atoms = Atoms(symbols)
    zeros = np.zeros(len(sizes))
    return Comparison(
        numbers=atoms.numbers.astype(np.int64),
        positions=options.pop("positions", np.arange(3.0 * count).reshape(count, 3) * 20.0),
        offset=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        molecule=np.asarray(options.pop("molecule", range(len(sizes))), dtype=np.int64),
        energy=zeros if energy is None else np.asarray(energy, float),
        forces=np.asarray(forces, float).reshape(count, 3),
        energy_predicted=zeros if energy_predicted is None else np.asarray(energy_predicted, float),
        forces_predicted=np.asarray(predicted, float).reshape(count, 3),
        **options,
    )


def random_comparison(seed, structures=6):
    rng = np.random.default_rng(seed)
    symbols = [rng.choice(["H", "H", "C", "N", "O"]) for _ in range(8 * structures)]
    forces = rng.normal(size=(len(symbols), 3))
    return compare(
        symbols, forces, forces + 0.2 * rng.normal(size=forces.shape), sizes=[8] * structures,
        positions=rng.uniform(-3, 3, size=forces.shape),
        energy=rng.normal(size=structures), energy_predicted=rng.normal(size=structures),
    )  # fmt: skip


def value(comparison, name, **options):
    return measure(comparison, resamples=20, **options)[name].value


BY_HAND = compare(
    "HCO",
    forces=[[1, 0, 0], [0, 2, 0], [0, 0, 3]],
    predicted=[[1, 1, 0], [0, 2, 1], [0, 3, 3]],
    energy=[-9.0],
    energy_predicted=[-8.4],
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("force_rmse", math.sqrt((1 + 1 + 9) / 9)),
        ("force_rmse_relative", math.sqrt(11 / 14)),
        ("force_mae", (1 + 1 + 3) / 9),
        ("hydrogen_force_error", 1.0),
        ("energy_mae_per_atom", 0.2),
        ("angular_error_mean_deg", (45 + math.degrees(math.atan(0.5)) + 45) / 3),
        ("angular_error_median_deg", 45.0),
        ("angular_error_p99_deg", 45.0),
        ("angular_error_max_deg", 45.0),
        ("angle_within_5deg", 0.0),
        ("angular_atoms_below_floor", 0.0),
        ("force_rmse_H", math.sqrt(1 / 3)),
        ("force_rmse_C", math.sqrt(1 / 3)),
        ("force_rmse_O", math.sqrt(3)),
        ("oxygen_over_carbon", 2.0),
        ("oxygen_over_carbon_relative", 1.0),
        ("hydrogen_fraction", 1 / 3),
        ("n_structures", 1.0),
        ("angular_error_mean_deg_at_1000_to_3000_mev", (45 + math.degrees(math.atan(0.5))) / 2),
        ("angular_error_mean_deg_at_3000_up_mev", 45.0),
    ],
)
def test_by_hand(name, expected):
    assert value(BY_HAND, name) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "name", ["angular_error_mean_deg_at_0_to_100_mev", "force_rmse_H_on_C", "force_rmse_H_bonding"]
)
def test_a_subset_without_atoms_is_undefined(name):
    assert measure(BY_HAND)[name] == Metric(None, measure(BY_HAND)[name].unit, 0)


def test_the_floor_decides_which_angles_count_and_the_share_left_out_is_told():
    comparison = compare("HHH", [[0.4, 0, 0], [0.5, 0, 0], [2, 0, 0]], [[0, 1, 0], [1, 1, 0], [2, 0, 0]])
    measured = measure(comparison)
    assert measured["angular_error_mean_deg"].value == pytest.approx(22.5)
    assert measured["angle_within_5deg"].value == pytest.approx(0.5)
    assert measured["angular_atoms_below_floor"].value == pytest.approx(1 / 3)
    assert value(replace(comparison, angular_floor=1.0), "angular_error_mean_deg") == 0.0


def test_all_forces_under_the_floor_leave_no_angle():
    measured = measure(compare("HH", np.full((2, 3), 0.1), np.full((2, 3), 0.1)))
    for name in ("mean", "median", "p99", "max"):
        assert measured[f"angular_error_{name}_deg"].value is None
    assert measured["angle_within_5deg"].value is None
    assert measured["angular_atoms_below_floor"].value == 1.0


def test_a_zero_prediction_counts_as_a_right_angle():
    comparison = compare("HC", [[1, 0, 0], [0, 2, 0]], np.zeros((2, 3)))
    assert value(comparison, "angular_error_mean_deg") == 90.0
    assert value(comparison, "force_rmse_relative") == 1.0


def test_an_atom_without_teacher_force_has_no_angle():
    measured = measure(compare("HC", [[0, 0, 0], [0.05, 0, 0]], [[1, 0, 0], [0.05, 0, 0]], angular_floor=0.01))
    assert measured["angular_error_mean_deg_at_0_to_100_mev"].value == 0.0
    assert measured["angular_error_mean_deg"].value == 0.0


def test_no_structure_at_all_leaves_everything_undefined_but_the_count():
    measured = measure(EMPTY)
    assert measured.pop("n_structures").value == 0.0
    assert {metric.value for metric in measured.values()} == {None}


EMPTY = Comparison(
    numbers=np.empty(0, np.int64), positions=np.empty((0, 3)), offset=np.zeros(1, np.int64),
    molecule=np.empty(0, np.int64), energy=np.empty(0), forces=np.empty((0, 3)), energy_predicted=np.empty(0),
    forces_predicted=np.empty((0, 3)),
)  # fmt: skip


def test_a_data_set_without_hydrogen_has_no_hydrogen_error():
    measured = measure(compare("CO", np.ones((2, 3)), np.ones((2, 3))))
    assert measured["hydrogen_force_error"].value is None
    assert measured["force_rmse_H"].value is None
    assert measured["hydrogen_fraction"].value == 0.0


@pytest.mark.parametrize("missing", ["O", "C"])
def test_a_ratio_without_one_of_its_elements_is_undefined(missing):
    measured = measure(compare(["H", "C" if missing == "O" else "O"], np.ones((2, 3)), np.zeros((2, 3))))
    for name in ("oxygen_over_carbon", "oxygen_over_carbon_relative"):
        assert measured[name] == Metric(None, "", 0)


def test_a_perfect_carbon_makes_the_ratio_undefined_and_not_zero():
    assert value(compare("CO", np.ones((2, 3)), [[1, 1, 1], [0, 1, 1]]), "oxygen_over_carbon") is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_prediction_that_is_not_finite_leaves_no_figure(bad):
    comparison = random_comparison(0)
    forces, energy = comparison.forces_predicted.copy(), comparison.energy_predicted.copy()
    row = int(np.flatnonzero((comparison.numbers == 1) & comparison.above_floor)[0])
    forces[row], energy[0] = bad, bad
    measured = measure(replace(comparison, forces_predicted=forces, energy_predicted=energy), resamples=20)
    for name in (
        "force_rmse", "force_rmse_relative", "force_mae", "hydrogen_force_error", "energy_mae_per_atom",
        "angular_error_mean_deg", "angular_error_median_deg", "angular_error_p99_deg", "angular_error_max_deg",
        "angle_within_5deg", "force_rmse_H",
    ):  # fmt: skip
        assert measured[name].value is None, name
    json.dumps({name: metric.to_dict() for name, metric in measured.items()}, allow_nan=False)


def test_hydrogens_are_told_apart_by_what_they_are_bonded_to():
    atoms = molecule("CH3CH2OH")
    errors = np.where(atoms.numbers == 1, 1.0, 0.0)
    (oxygen,) = np.flatnonzero(atoms.numbers == 8)
    distances = atoms.get_all_distances()[oxygen]
    (hydroxyl,) = [i for i in np.flatnonzero(atoms.numbers == 1) if distances[i] < 1.2]
    errors[hydroxyl] = 2.0
    predicted = np.repeat(errors[:, None], 3, axis=1)
    measured = measure(compare(atoms.get_chemical_symbols(), np.zeros((9, 3)), predicted, positions=atoms.positions))
    assert measured["force_rmse_H_on_C"].value == pytest.approx(1.0)
    assert measured["force_rmse_H_on_O"].value == pytest.approx(2.0)
    assert measured["force_rmse_H_on_N"].value is None
    assert measured["force_rmse_H_bonding"].value is None


def test_the_hydrogen_of_a_hydrogen_bond_is_found_and_only_in_its_own_structure():
    donor, acceptor = molecule("H2O"), molecule("H2O")
    direction = donor.positions[1] - donor.positions[0]
    direction /= np.linalg.norm(direction)
    acceptor.positions += donor.positions[0] + 2.9 * direction - acceptor.positions[0]
    pair = donor + acceptor
    dimer = compare(pair.get_chemical_symbols(), np.zeros((6, 3)), np.ones((6, 3)), positions=pair.positions)
    assert int(dimer.hydrogen_bonded.sum()) == 1 and dimer.hydrogen_bonded[1]
    apart = replace(dimer, offset=np.array([0, 3, 6]), molecule=np.array([0, 1]))
    assert not apart.hydrogen_bonded.any()
    assert apart.partner.tolist() == [0, 8, 8, 0, 8, 8]


def test_a_lone_hydrogen_has_no_partner():
    assert BY_HAND.partner.tolist() == [0, 0, 0]


def test_every_metric_says_how_many_molecules_contribute():
    forces = np.ones((4, 3))
    measured = measure(compare("CHOH", forces, forces, sizes=[1, 1, 1, 1], molecule=[0, 0, 1, 2]))
    assert measured["force_rmse"].n == 3
    assert measured["force_rmse_C"].n == 1
    assert measured["hydrogen_force_error"].n == 2
    assert measured["n_structures"] == Metric(3.0, "molecules", 3)


@pytest.mark.parametrize("name", ["mean", "median", "p99", "max"])
def test_of_angles_those_count_that_have_atoms_above_the_floor(name):
    strong, weak = [1.0, 0.0, 0.0], [0.1, 0.0, 0.0]
    for forces, n in (([strong, weak, weak], 1), ([weak] * 3, 0)):
        found = measure(compare("CHO", forces, forces, sizes=[1, 1, 1]), resamples=20)[f"angular_error_{name}_deg"]
        assert found.n == n
        assert (found.value is None) is (n == 0)


def test_a_maximum_and_a_count_have_no_interval_and_all_else_has_one():
    measured = measure(random_comparison(3, structures=40), resamples=200)
    common = {name: metric for name, metric in measured.items() if metric.n > 10}
    without = {name for name, metric in common.items() if metric.low is None}
    assert without == {"angular_error_max_deg", "hydrogen_fraction", "n_structures"}
    for name in common.keys() - without:
        assert common[name].low <= common[name].value <= common[name].high, name


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_turning_every_structure_changes_no_metric(seed):
    comparison = random_comparison(seed)
    turns = Rotation.from_quat(np.random.default_rng(seed + 1).normal(size=(6, 4)))
    of_atom = turns[comparison.structure_of_atom]
    turned = replace(
        comparison,
        positions=of_atom.apply(comparison.positions),
        forces=of_atom.apply(comparison.forces),
        forces_predicted=of_atom.apply(comparison.forces_predicted),
    )
    before, after = measure(comparison, resamples=20), measure(turned, resamples=20)
    assert before.keys() == after.keys()
    # The only metric that depends on the axes: a mean over components, the usual definition.
    turned_mae, mae = after.pop("force_mae").value, before.pop("force_mae").value
    assert mae / math.sqrt(3) < turned_mae < mae * math.sqrt(3)
    for name, metric in before.items():
        assert after[name].value == (None if metric.value is None else pytest.approx(metric.value, abs=1e-9)), name


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_the_structures_changes_no_metric(seed):
    comparison = random_comparison(seed)
    order = np.random.default_rng(seed).permutation(6)
    atoms = np.concatenate([np.arange(8 * i, 8 * i + 8) for i in order])
    shuffled = replace(
        comparison,
        numbers=comparison.numbers[atoms],
        positions=comparison.positions[atoms],
        molecule=comparison.molecule[order],
        energy=comparison.energy[order],
        energy_predicted=comparison.energy_predicted[order],
        forces=comparison.forces[atoms],
        forces_predicted=comparison.forces_predicted[atoms],
    )
    before, after = measure(comparison, resamples=2), measure(shuffled, resamples=2)
    for name, metric in before.items():
        assert after[name].value == (None if metric.value is None else pytest.approx(metric.value, abs=1e-12)), name


class TestHowFiguresWentWrongBefore:
    """Each test distinguishes two quantities that were once published under one name."""

    def test_the_mean_length_of_the_error_is_not_the_rmse(self):
        rng = np.random.default_rng(0)
        error = 0.5 * rng.normal(size=(300, 3))
        rmse = value(compare(["C"] * 300, np.ones((300, 3)), 1 + error), "force_rmse")
        assert rmse == pytest.approx(math.sqrt((error**2).mean()))
        assert np.linalg.norm(error, axis=1).mean() > 1.3 * rmse

    def test_the_mean_of_batch_rmses_is_not_the_rmse(self):
        predicted = np.concatenate([np.full((10, 3), 0.1), np.full((10, 3), 0.5)])
        zeros = np.zeros((20, 3))
        whole = value(compare("C" * 20, zeros, predicted), "force_rmse")
        batches = [value(compare("C" * 10, zeros[:10], predicted[i : i + 10]), "force_rmse") for i in (0, 10)]
        assert whole == pytest.approx(math.sqrt((0.01 + 0.25) / 2))
        assert np.mean(batches) == pytest.approx(0.3)
        assert whole > 1.15 * np.mean(batches)

    def test_large_and_small_molecules_are_pooled_by_atom(self):
        comparison = compare("C" * 10, np.zeros((10, 3)), np.repeat([1.0, 0.0], [3, 27]).reshape(10, 3), sizes=[1, 9])
        assert value(comparison, "force_rmse") == pytest.approx(math.sqrt(0.1))

    def test_small_forces_do_not_dominate_the_angle(self):
        rng = np.random.default_rng(0)
        forces = np.concatenate([rng.normal(size=(200, 3)) * 0.1, rng.normal(size=(200, 3)) * 2.0])
        comparison = compare("C" * 400, forces, forces + 0.15 * rng.normal(size=forces.shape))
        assert comparison.angles.mean() > 3 * value(comparison, "angular_error_mean_deg")

    def test_predicting_zero_passes_the_absolute_figure_on_relaxed_frames_and_not_the_relative_one(self):
        forces = np.random.default_rng(0).normal(scale=0.17, size=(100, 3))
        comparison = compare("C" * 100, forces, np.zeros((100, 3)))
        assert value(comparison, "force_rmse") < 0.25
        assert value(comparison, "force_rmse_relative") == pytest.approx(1.0)

    def test_small_angles_keep_their_digits(self):
        comparison = compare("C", [[1, 0, 0]], [[1, 1e-7, 0]])
        assert value(comparison, "angular_error_mean_deg") == pytest.approx(math.degrees(1e-7), rel=1e-9)

    def test_an_energy_shift_is_an_error(self):
        comparison = compare("CC", np.ones((2, 3)), np.ones((2, 3)), sizes=[1, 1], energy_predicted=[2.0, 2.0])
        assert value(comparison, "energy_mae_per_atom") == 2.0


def test_names_are_unique_and_every_measured_metric_has_one():
    names = metric_names()
    assert len(names) == len(set(names))
    assert set(measure(random_comparison(0), resamples=2)) <= set(names)
    assert not [name for name in names if "." in name]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([4.0, 2.0, 1.0], 0.0),
        ([4.0, 1.0, 1.5], 0.5),
        ([*np.linspace(5, 1, 18), 2.0, 2.0], 1.0),
        ([1.0], None),
        ([], None),
        ([2.0, math.nan, 1.0], None),
        ([2.0, 0.0], None),
    ],
)
def test_convergence_by_hand(losses, expected):
    metric = convergence(losses)
    assert metric.n == len(losses)
    assert metric.value == (None if expected is None else pytest.approx(expected))
