"""Tests of a PaiNN with constant weights: the complete model in C++ against plain PyTorch in double precision."""

import copy

import pytest
import torch
from ase import Atoms
from ase.build import molecule
from torch import Tensor

from hydrogate.models.dynamics import StudentPotential
from hydrogate.models.kernels import _painn, in_plain_torch
from hydrogate.models.potential import Prediction, Student, Support, energy_and_forces
from hydrogate.models.students import make_student

# Small and large molecules, single atoms and distant atoms: some share a block, and some have no neighbour.
NAMES = ("H2O", "C60", "CH4", "C6H6", "CH3CH2OH", "CH3CONH2", "trans-butane")
SOME = [*map(molecule, NAMES), Atoms("O"), Atoms("H2", [[0, 0, 0], [0, 0, 9]])]


def trained(size: dict[str, int]) -> Student:
    """Return a student after some training steps towards random forces, which make its weights large."""
    torch.manual_seed(0)
    student = make_student("painn", size, Support.of(SOME))
    student.energy_scale.fill_(1.5)
    batch = student.collate(SOME[2:6])
    target = 3.0 * torch.randn_like(batch.positions)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    for _ in range(15):
        energy, forces, _ = energy_and_forces(student, batch, create_graph=True)
        optimizer.zero_grad()
        ((forces - target).square().mean() + energy.square().mean()).backward()
        optimizer.step()
    return student


def constant(student: Student, dtype: torch.dtype) -> Student:
    return copy.deepcopy(student).to(dtype).requires_grad_(False)


def deviation(found: Prediction, exact: Prediction) -> float:
    pairs = zip(found[:2], exact[:2], strict=True)
    return max(float((f.double() - e).norm() / e.norm()) for f, e in pairs)


@pytest.mark.parametrize("size", [{}, {"features": 16, "layers": 2}, {"features": 32, "layers": 1, "radial": 7}])
def test_at_once_is_as_exact_as_plain_torch(size: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    student = trained(size)
    single, double = (student.collate(SOME, dtype) for dtype in (torch.float32, torch.float64))
    with in_plain_torch():
        exact = energy_and_forces(constant(student, torch.float64), double)
        plain = energy_and_forces(student, single)
    calls = []
    real = _painn.energies
    monkeypatch.setattr(_painn, "energies", lambda *given: (calls.append(given), real(*given))[1])
    assert deviation(energy_and_forces(constant(student, torch.float64), double), exact) < 1e-11
    found = energy_and_forces(constant(student, torch.float32), single)
    assert deviation(found, exact) <= max(1e-5, 3 * deviation(plain, exact))
    assert len(calls) == 2
    energy_and_forces(student, single)
    assert len(calls) == 2  # weights that can be trained


@pytest.mark.parametrize("features", [5, 12])
def test_rows_that_fill_no_vector(features: int) -> None:
    student = trained({"features": features, "layers": 2}).double().requires_grad_(False)
    batch = student.collate(SOME, torch.float64)
    with in_plain_torch():
        exact = energy_and_forces(student, batch)
    assert deviation(energy_and_forces(student, batch), exact) < 1e-11


def test_each_structure_alone() -> None:
    student = constant(trained({"features": 16, "layers": 2}), torch.float64)
    together = energy_and_forces(student, student.collate(SOME, torch.float64))
    alone = [energy_and_forces(student, student.collate([atoms], torch.float64)) for atoms in SOME]
    torch.testing.assert_close(torch.cat([one.energy for one in alone]), together.energy, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(torch.cat([one.forces for one in alone]), together.forces, rtol=1e-12, atol=1e-9)


def test_any_sum_of_energies_and_second_derivatives() -> None:
    student = constant(trained({"features": 16, "layers": 2}), torch.float64)
    batch = student.collate(SOME[2:6], torch.float64)
    weights = torch.tensor([1.0, -2.0, 0.0, 0.5], dtype=torch.float64)

    def derivatives() -> tuple[Tensor, Tensor]:
        positions = batch.positions.clone().requires_grad_()
        energy = student.interaction_energy(batch.at(positions)) @ weights
        (plain,) = torch.autograd.grad(energy, positions, retain_graph=True)
        (first,) = torch.autograd.grad(energy, positions, create_graph=True)
        torch.testing.assert_close(plain, first.detach(), rtol=1e-10, atol=1e-10)
        (second,) = torch.autograd.grad(first.sin().sum(), positions)
        return plain, second

    found = derivatives()
    with in_plain_torch():
        exact = derivatives()
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-10)


def test_a_lost_atom_spoils_no_other_molecule() -> None:
    student = constant(trained({"features": 16, "layers": 2}), torch.float32)
    some = [SOME[2], SOME[0], SOME[4]]
    potential = StudentPotential(student, some)
    where = potential.batch.positions.double().numpy()
    energy, forces = potential(where)
    broken = where.copy()
    broken[5] = float("nan")
    other_energy, other_forces = potential(broken)
    assert torch.tensor(other_energy).isnan().tolist() == [False, True, False]
    torch.testing.assert_close(other_energy[[0, 2]], energy[[0, 2]])
    kept = [*range(5), *range(8, len(where))]
    torch.testing.assert_close(other_forces[kept], forces[kept], rtol=1e-4, atol=1e-4)
