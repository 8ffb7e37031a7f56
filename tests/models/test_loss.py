"""Tests of the loss: every weight counts, and the slope is finite everywhere."""

import numpy as np
import pytest
import torch
from ase.build import molecule

from hydrogate.models.batch import collate
from hydrogate.models.loss import ANGULAR_FLOOR, Loss, Pairs, angular_term
from hydrogate.models.objective import Labelled, pairs_of

SIZES = torch.tensor([2, 3])
TRUE_ENERGY = torch.tensor([-10.0, -20.0], dtype=torch.float64)
TRUE_FORCES = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)) * 3
ENERGY = TRUE_ENERGY + torch.tensor([0.4, -0.9], dtype=torch.float64)
FORCES = TRUE_FORCES + torch.randn(5, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("form", ["norm", "mse"])
@pytest.mark.parametrize("weight", ["energy_weight", "force_weight", "angular_weight"])
def test_each_weight_counts_in_value_and_gradient(form: str, weight: str) -> None:
    only = {"energy_weight": 0.0, "force_weight": 0.0, "angular_weight": 0.0} | {weight: 2.0}
    inputs = [ENERGY.clone().requires_grad_(), FORCES.clone().requires_grad_()]
    value = Loss(form, **only)(*inputs, TRUE_ENERGY, TRUE_FORCES, SIZES)
    gradients = torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True)
    assert value > 0
    energy_counts, forces_count = (bool((g != 0).any()) for g in gradients)
    assert (energy_counts, forces_count) == (weight == "energy_weight", weight != "energy_weight")
    double = Loss(form, **(only | {weight: 4.0}))(*inputs, TRUE_ENERGY, TRUE_FORCES, SIZES)
    assert double.item() == pytest.approx(2 * value.item())


@pytest.mark.parametrize(("form", "expected"), [("norm", (5.0 + 0.0) / 2), ("mse", 25.0 / 6)])
def test_the_dipole_counts_where_it_weighs(form: str, expected: float) -> None:
    labels = (ENERGY, FORCES, ENERGY, FORCES, SIZES)
    true = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.5]])
    dipole = (true + torch.tensor([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0]])).requires_grad_()
    loss = Loss(form, 1.0, 1.0, 0.0, dipole_weight=2.0)
    value = loss(*labels, dipole, true)
    assert value.item() == pytest.approx(2.0 * expected)
    assert torch.autograd.grad(value, dipole)[0].isfinite().all()
    assert Loss(form, 1.0, 1.0, 0.0)(*labels, dipole, true).item() == 0.0
    with pytest.raises(ValueError, match="the student predicts no dipole"):
        loss(*labels, None, true)
    with pytest.raises(ValueError, match="the labels contain no dipole"):
        loss(*labels, dipole)


def test_terms_by_hand() -> None:
    energy = (0.4 / 2 + 0.9 / 3) / 2
    force = (FORCES - TRUE_FORCES).norm(dim=1).mean().item()
    value = Loss("norm", 0.5, 1.0, 0.0)(ENERGY, FORCES, TRUE_ENERGY, TRUE_FORCES, SIZES)
    assert value.item() == pytest.approx(0.5 * energy + force)
    squared = (0.2**2 + 0.3**2) / 2
    value = Loss("mse", 0.5, 1.0, 0.0)(ENERGY, FORCES, TRUE_ENERGY, TRUE_FORCES, SIZES)
    assert value.item() == pytest.approx(0.5 * squared + (FORCES - TRUE_FORCES).square().mean().item())


@pytest.mark.parametrize("form", ["norm", "mse"])
def test_atoms_weigh_in_the_force_term_by_their_element(form: str) -> None:
    weights = tuple(0.5 if z == 1 else 3.0 if z == 8 else 1.0 for z in range(10))
    numbers = torch.tensor([8, 1, 6, 1, 1])
    labels = (ENERGY, FORCES, TRUE_ENERGY, TRUE_FORCES, SIZES)
    errors = (FORCES - TRUE_FORCES).norm(dim=1) if form == "norm" else (FORCES - TRUE_FORCES).square().mean(1)
    expected = (errors * torch.tensor([3.0, 0.5, 1.0, 0.5, 0.5])).mean().item()
    loss = Loss(form, 0.0, 2.0, 0.0, element_weights=weights)
    assert loss(*labels, numbers=numbers).item() == pytest.approx(2 * expected)
    assert loss(*labels, numbers=torch.full((5,), 6)).item() == pytest.approx(Loss(form, 0.0, 2.0, 0.0)(*labels).item())
    with pytest.raises(ValueError, match="no atomic numbers"):
        loss(*labels)


@pytest.mark.parametrize("form", ["norm", "mse"])
@pytest.mark.parametrize("predicted", [TRUE_FORCES, torch.zeros(5, 3)], ids=["exact", "zero"])
def test_the_slope_is_finite(form: str, predicted: torch.Tensor) -> None:
    energy, forces = TRUE_ENERGY.clone().requires_grad_(), predicted.clone().requires_grad_()
    value = Loss(form, 1.0, 1.0, 1.0)(energy, forces, TRUE_ENERGY, TRUE_FORCES, SIZES)
    assert all(g.isfinite().all() for g in torch.autograd.grad(value, [energy, forces]))
    assert value.isfinite()


def test_angles() -> None:
    east, north = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
    assert angular_term(5 * east, east).item() == pytest.approx(0.0)
    assert angular_term(north, east).item() == pytest.approx(1.0)
    assert angular_term(-east, east).item() == pytest.approx(2.0)
    assert angular_term(torch.zeros(1, 3), east).item() == pytest.approx(1.0)
    small = east * (0.9 * ANGULAR_FLOOR / 2)
    assert angular_term(-east, small).item() == 0.0
    assert angular_term(torch.cat([north, north]), torch.cat([small, east])).item() == pytest.approx(1.0)
    # A right angle at 2 eV/Å and no angle at 6 eV/Å.
    mixed = torch.cat([north, 3 * east]), torch.cat([east, 3 * east])
    assert angular_term(*mixed).item() == pytest.approx(0.5)
    assert angular_term(*mixed, "forces").item() == pytest.approx(0.25)
    assert angular_term(-small, small, "forces").item() == 0.0


@pytest.mark.parametrize("weights", [(0, 0, 0), (-1, 1, 1), (float("nan"), 1, 1)])
def test_weights_that_make_no_loss(weights: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="loss weights"):
        Loss("norm", *weights)


def test_an_unknown_form() -> None:
    with pytest.raises(ValueError, match="unknown form of the force loss 'rmse'"):
        Loss("rmse", 1, 1, 1)


@pytest.mark.parametrize(("form", "expected"), [("norm", (5.0 + 0.0) / 2 / 0.04), ("mse", 25.0 / 6 / 0.04**2)])
def test_the_curvature_is_the_difference_of_errors_over_the_distance(form: str, expected: float) -> None:
    true = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    forces = (true + 0.7).requires_grad_()  # an error that both ends share is not an error of the curvature
    shift = torch.zeros(4, 3)
    shift[2] = torch.tensor([3.0, 0.0, 4.0])
    pairs = Pairs(torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([0.04, 0.04]))
    labels = (ENERGY, forces + shift, ENERGY, true, torch.tensor([2, 2]))
    weighs, does_not = Loss(form, 1.0, 1.0, 0.0, hessian_weight=0.5), Loss(form, 1.0, 1.0, 0.0)
    value = weighs(*labels, pairs=pairs) - does_not(*labels)
    assert value.item() == pytest.approx(0.5 * expected, rel=1e-5)
    assert torch.autograd.grad(weighs(*labels, pairs=pairs), forces)[0].isfinite().all()
    assert torch.equal(weighs(*labels), does_not(*labels))
    assert torch.equal(does_not(*labels, pairs=pairs), does_not(*labels))


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_a_weight_of_the_curvature_without_sense(weight: float) -> None:
    with pytest.raises(ValueError, match="loss weights"):
        Loss("norm", 1.0, 1.0, 0.0, hessian_weight=weight)


def test_pairs_are_found_by_both_their_ends() -> None:
    water, moved, ethanol = molecule("H2O"), molecule("H2O"), molecule("CH3CH2OH")
    moved.positions += np.array([[0.03, 0.0, 0.04]] * 3)
    some = [
        Labelled(collate([atoms], 4.0), torch.tensor(0.0), torch.zeros(len(atoms), 3), None, pair)
        for atoms, pair in ((ethanol, 7), (water, 3), (ethanol, None), (moved, 3))
    ]
    pairs = pairs_of(some)
    assert pairs.first.tolist() == [9, 10, 11]
    assert pairs.second.tolist() == [21, 22, 23]
    assert pairs.apart.tolist() == pytest.approx([0.05] * 3, rel=1e-4)
    assert pairs_of(some[:3]) is None
