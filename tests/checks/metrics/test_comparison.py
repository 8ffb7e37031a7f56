"""Comparison of two data sets: required agreement, optional fields, and assignment of structures to molecules."""

import math
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

from hydrogate.checks.data.dataset import concatenate
from hydrogate.checks.metrics.comparison import POSITION_TOLERANCE, Comparison, molecules_of
from hydrogate.checks.metrics.definitions import measure


def labelled(*names, **columns):
    structures = [molecule(name) for name in names or ("H2O", "CH4")]
    forces = [np.ones((len(atoms), 3)) for atoms in structures]
    return concatenate(structures, energy=1.0 + np.arange(len(structures)), forces=forces, **columns)


def test_a_comparison_of_two_data_sets():
    data = labelled()
    comparison = Comparison.of(data, replace(data, forces=2 * data.forces))
    assert measure(comparison, resamples=20)["force_rmse"].value == pytest.approx(1.0)
    assert comparison.molecules == 2


@pytest.mark.parametrize(
    ("predicted", "says"),
    [
        (labelled("H2O"), "the reference has 2 structures, the prediction 1"),
        (labelled("H2O", "NH3"), "structure 1 .* 5 atoms in the reference and 4"),
        (labelled("SH2", "CH4"), "structure 0 .* elements differ"),
        (labelled("CH4", "H2O"), "structure 0"),
        (concatenate([molecule("H2O"), molecule("CH4")]), "the prediction has no forces"),
    ],
)
def test_data_sets_that_differ_are_refused_with_the_first_difference(predicted, says):
    with pytest.raises(ValueError, match=says):
        Comparison.of(labelled(), predicted)


def test_moved_atoms_and_another_charge_are_refused():
    data = labelled()
    moved = replace(data, positions=data.positions + np.float32(0.01))
    with pytest.raises(ValueError, match=r"structure 0 .*positions differ"):
        Comparison.of(data, moved)
    with pytest.raises(ValueError, match=r"structure 1 .*charge differ"):
        Comparison.of(data, replace(data, charge=np.array([0, 1], np.int16)))


def test_positions_may_differ_by_what_a_written_file_loses():
    data = labelled()
    written = replace(data, positions=np.round(data.positions, 4))
    assert not np.array_equal(written.positions, data.positions)
    assert Comparison.of(data, written).molecules == 2
    moved = data.positions.copy()
    moved[4, 1] += np.float32(1.5 * POSITION_TOLERANCE)
    with pytest.raises(ValueError, match=r"structure 1 \(CH4\): positions differ"):
        Comparison.of(data, replace(data, positions=moved))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_position_that_is_not_finite_is_a_difference(bad):
    data = labelled()
    moved = data.positions.copy()
    moved[0, 0] = bad
    for one, other in ((data, replace(data, positions=moved)), (replace(data, positions=moved), data)):
        with pytest.raises(ValueError, match=r"structure 0 .*positions differ"):
            Comparison.of(one, other)


@pytest.mark.parametrize("unlabelled", ["reference", "predicted"])
def test_without_energies_the_forces_are_compared_all_the_same(unlabelled):
    pair = {"reference": labelled(), "predicted": labelled()}
    pair[unlabelled] = replace(pair[unlabelled], energy=None)
    measured = measure(Comparison.of(**pair), resamples=10)
    assert measured["force_rmse"].value == 0.0
    assert measured["energy_mae_per_atom"].value is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reference_force_that_is_not_finite_is_refused_and_not_left_out(bad):
    data = labelled()
    forces = data.forces.copy()
    forces[5, 2] = bad
    with pytest.raises(ValueError, match=r"structure 1 \(CH4\): a force of the .* finite; remove the structure"):
        Comparison.of(replace(data, forces=forces), data)


def test_an_atom_without_a_teacher_force_has_no_angle_whatever_the_floor():
    data = labelled()
    comparison = Comparison.of(replace(data, forces=np.zeros_like(data.forces)), data, angular_floor=0.0)
    measured = measure(comparison, resamples=10)
    assert measured["angular_error_mean_deg"].value is None
    assert measured["angle_within_5deg"].value is None


@pytest.mark.parametrize(
    ("column", "what", "structure"),
    [("numbers", "elements", "0"), ("charge", "charge", "1"), ("spin_multiplicity", "spin multiplicity", "1")],
)
def test_an_element_a_charge_or_a_spin_that_is_the_next_one_is_a_difference(column, what, structure):
    data = labelled()
    values = getattr(data, column).copy()
    values[1] += 1
    with pytest.raises(ValueError, match=rf"structure {structure} .*: {what} differ between the reference"):
        Comparison.of(data, replace(data, **{column: values}))


@pytest.mark.parametrize("missing", ["reference", "predicted"])
def test_without_forces_there_is_nothing_to_compare(missing):
    pair = {"reference": labelled(), "predicted": labelled()}
    pair[missing] = replace(pair[missing], forces=None)
    with pytest.raises(ValueError, match="has no forces"):
        Comparison.of(**pair)


def test_geometries_and_skeletons_of_one_molecule_are_one_molecule():
    skeletons = ["", "", "", "A" * 14 + "-X", "", "A" * 14 + "-Y"]
    first, second, third, fourth, fifth, sixth = molecules_of(
        labelled(*["H2O"] * 6, parent=[0, 0, 1, 3, 4, 5], inchikey=skeletons)
    ).tolist()
    assert first == second == third
    assert fourth == sixth
    assert len({first, fourth, fifth}) == 3
