"""Tests of the measured benefit of compiling for each student; test_students.py tests that compiling is correct."""

import pytest

from hydrogate.models.compiled import compiled_share
from hydrogate.models.kernels import in_plain_torch, kernel_names
from hydrogate.models.potential import Student, Support
from hydrogate.models.students import make_student, student_names


@pytest.fixture(params=student_names())
def student(request: pytest.FixtureRequest) -> Student:
    return make_student(request.param, {}, Support((1, 6)))


def test_compiling_is_worth_less_where_kernels_serve(student: Student) -> None:
    assert set(student.kernels) <= set(kernel_names())
    beside_kernels = compiled_share(student, "cpu")
    with in_plain_torch():
        assert 0.0 < compiled_share(student, "cpu") <= beside_kernels <= 1.0


def test_compiling_a_painn_saves_nothing_beside_its_kernels() -> None:
    painn = make_student("painn", {}, Support((1, 6)))
    assert compiled_share(painn, "cpu") == 1.0
    with in_plain_torch():
        assert compiled_share(painn, "cpu") < 0.5
