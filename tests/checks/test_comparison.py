"""Which two data sets may be compared, and what one of them may leave out."""

import math
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

from hydrogate.checks.comparison import POSITION_TOLERANCE, Comparison
from hydrogate.checks.dataset import concatenate
from hydrogate.checks.metrics import measure


def labelled(**columns):
    structures = [molecule("H2O"), molecule("CH4")]
    forces = [np.ones((len(atoms), 3)) for atoms in structures]
    return concatenate(structures, energy=[1.0, 2.0], forces=forces, **columns)


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
    with pytest.raises(ValueError, match=r"structure 1 \(CH4\): a force of the .* finite; take the structure out"):
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
    with pytest.raises(ValueError, match="holds no forces"):
        Comparison.of(**pair)
