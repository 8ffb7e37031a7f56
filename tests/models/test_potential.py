"""Tests of the common parts of all students: names, sizes and reference energies."""

import numpy as np
import pytest

from hydrogate.checks.data.dataset import Dataset
from hydrogate.models.batch import collate, join
from hydrogate.models.potential import Support
from hydrogate.models.students import make_student, student_names

SUPPORT = Support(elements=(1, 6, 7, 8, 9, 16, 17))


def test_references_carry_the_composition(labelled: Dataset) -> None:
    """Check that a least-squares fit of the composition reproduces energies that are sums over atoms."""
    student = make_student("painn", {"features": 16, "layers": 1}, SUPPORT)
    batches = [collate([labelled.to_atoms(row)], 4.0) for row in range(len(labelled))]
    true = {1: -13.0, 6: -1000.5, 7: -1400.25, 8: -2000.0, 9: -2700.0, 16: -10000.0, 17: -12000.0}
    energies = np.array([sum(true[z] for z in batch.numbers.tolist()) for batch in batches])
    student.fit_references(batches, energies, 1.5)
    found = student.reference_energy(join(batches)).numpy()
    assert np.allclose(found, energies, rtol=0, atol=2e-2)
    assert np.array_equal(student.double().reference_energy(join(batches)).numpy(), found)
    assert student.energy_scale.item() == 1.5
    with pytest.raises(ValueError, match="energy scale"):
        student.fit_references(batches, energies, 0.0)
    with pytest.raises(ValueError, match="not finite"):
        student.fit_references(batches, energies * np.nan, 1.0)


@pytest.mark.parametrize("name", student_names())
def test_it_is_called_as_its_file(name: str) -> None:
    student = make_student(name, {}, SUPPORT)
    assert student.name == name
    assert student.cutoff > 0


def test_names_and_sizes_that_do_not_exist() -> None:
    with pytest.raises(ValueError, match="did you mean 'painn'"):
        make_student("pain", {}, SUPPORT)
    with pytest.raises(ValueError, match="did you mean 'features'"):
        make_student("painn", {"featurs": 64}, SUPPORT)
    for value in (0, -3, 2.5, True, None, "64", float("nan"), float("inf")):
        with pytest.raises(ValueError, match="features must be a positive int"):
            make_student("painn", {"features": value}, SUPPORT)


@pytest.mark.parametrize(("key", "most"), [("features", 1024), ("layers", 32), ("radial", 1024), ("cutoff", 100)])
def test_sizes_beyond_all_students_are_refused_before_any_memory_is_taken(key: str, most: int) -> None:
    small = {"features": 4, "layers": 1}
    assert getattr(make_student("painn", small | {key: most}, SUPPORT).size, key) == most
    for value in (most + 1, 10**400):
        with pytest.raises(
            ValueError, match=f"{key} must be a positive (int|float), at most {most}, got {str(value)[:40]}$"
        ):
            make_student("painn", small | {key: value}, SUPPORT)
