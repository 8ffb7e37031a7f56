"""Tests of all implementations of all kernels against the reference in double precision.

Compared are values, gradients and second derivatives, which training on forces needs. Triton runs in its interpreter,
in a separate process.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase.build import molecule
from torch import Tensor

from hydrogate.models.batch import Batch
from hydrogate.models.kernels import (
    NotAvailable,
    _native,
    exchange,
    fastest,
    implementation,
    in_plain_torch,
    kernel_module,
    kernel_names,
)
from hydrogate.models.names import UnknownName
from hydrogate.models.neighbours import neighbour_pairs
from hydrogate.models.potential import Student, Support, energy_and_forces
from hydrogate.models.students import make_student, student_names

# The fast implementation of each kernel.
FAST = {
    **dict.fromkeys(("attention", "exchange", "gate", "invariants", "message"), "cpp"),
    "radial": "folded",
}


def graph(atoms: int, edges: int) -> Tensor:
    """Return random edges (2, E) between different atoms, sorted by receiver."""
    receiver = torch.sort(torch.randint(atoms, (edges,))).values if atoms > 1 else torch.zeros(0, dtype=torch.int64)
    return torch.stack([receiver, (receiver + torch.randint(1, max(atoms, 2), receiver.shape)) % atoms])


def arguments(case: str, atoms: int = 9, edges: int = 40, scale: float = 1.0, f: int = 5) -> list[Tensor | float]:
    """Return arguments of a kernel in double precision; ``scale`` makes them as large as with trained weights."""
    torch.manual_seed(0)
    along = graph(atoms, edges)
    pairs = torch.triu_indices(atoms, atoms, 1)[:, :edges]
    e, b = along.shape[1], pairs.shape[1]

    def some(*shape: int) -> Tensor:
        return (scale * torch.randn(*shape, dtype=torch.float64)).requires_grad_()

    distance = (0.8 + 4.2 * torch.rand(e, 1, dtype=torch.float64)).requires_grad_()
    if case == "message":
        return [some(atoms, 3 * f), some(e, 3 * f), some(e, 3), some(atoms, 3, f), along]
    if case == "message without vectors":
        return [some(atoms, 2 * f), some(e, 2 * f), some(e, 3), some(0, 3, f), along]
    if case == "exchange":
        return [some(atoms, 3 * f), some(b, 7), some(3 * f, 7), some(b, 3), some(atoms, 3, f), pairs]
    if case == "exchange without vectors":
        return [some(atoms, 2 * f), some(b, 7), some(2 * f, 7), some(b, 3), some(0, 3, f), pairs]
    if case == "gate":
        return [some(atoms, 3 * f), some(atoms, 3, f), some(atoms, 3, f)]
    if case == "gate without vectors":
        return [some(atoms, 2 * f), some(atoms, 3, f), some(atoms, 3, f)]
    if case == "invariants":
        return [some(atoms, f), some(atoms, 3, f)]
    if case == "attention":
        return [some(atoms, 2, f), some(atoms, 2, f), some(atoms, 2, f), some(e, 2, f), some(e, 1), along]
    if case == "radial":
        return [distance, torch.arange(1, 7) * (torch.pi / 5.0), some(7, 6), some(7), 5.0]
    raise LookupError(f"kernel {case}: its arguments are not defined here")


# Cases with a Triton kernel, and cases with a C++ kernel; the others use PyTorch's own operations.
IN_TRITON = ("message", "message without vectors", "attention")
IN_CPP = (*IN_TRITON, "exchange", "exchange without vectors", "gate", "gate without vectors", "invariants")
CASES = (*IN_CPP, *(kernel for kernel, how in FAST.items() if how != "cpp"))


def observed(kernel, given: list, dtype: torch.dtype) -> list[Tensor]:
    """Return outputs, gradients of a function of them, and the gradients of a function of those gradients."""
    cast = [a.detach().to(dtype) if isinstance(a, Tensor) and a.is_floating_point() else a for a in given]
    leaves = [a.requires_grad_() for a, was in zip(cast, given, strict=True) if getattr(was, "requires_grad", False)]
    outputs = kernel(*cast)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)

    def number(tensors) -> Tensor:
        weights = [torch.cos(torch.arange(t.numel(), dtype=dtype)).view_as(t) for t in tensors]
        return sum(((t + 0.1 * t * t) * w).sum() for t, w in zip(tensors, weights, strict=True))

    first = torch.autograd.grad(number(outputs), leaves, create_graph=True, materialize_grads=True)
    second = torch.autograd.grad(number(first), leaves, materialize_grads=True)
    return [t.detach().double() for t in (*outputs, *first, *second)]


def deviation(found: list[Tensor], exact: list[Tensor]) -> float:
    assert [t.shape for t in found] == [t.shape for t in exact]
    assert all(t.isfinite().all() for t in found)
    return max(float((f - e).norm() / e.norm().clamp(min=1e-12)) for f, e in zip(found, exact, strict=True))


def one_way(student: Student, batch: Batch, drop: int) -> tuple[Tensor, Tensor]:
    """Return energy and forces without the first ``drop`` edges."""
    return energy_and_forces(student, replace(batch, edge_index=batch.edge_index[:, drop:]))[:2]


def compare(case: str, name: str, given: list) -> None:
    kernel = case.split()[0]
    reference, tested = kernel_module(kernel).reference, implementation(kernel, name)
    exact = observed(reference, given, torch.float64)
    assert deviation(observed(tested, given, torch.float64), exact) < 1e-11
    plain = deviation(observed(reference, given, torch.float32), exact)
    assert deviation(observed(tested, given, torch.float32), exact) <= max(1e-5, 3 * plain)


@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize("case", CASES)
def test_fast_is_as_exact_as_plain_torch(case: str, scale: float) -> None:
    compare(case, FAST[case.split()[0]], arguments(case, scale=scale))


@pytest.mark.parametrize("case", ["exchange", "exchange without vectors"])
@pytest.mark.parametrize("f", [16, 64])
def test_many_pairs_of_the_sizes_in_use(case: str, f: int) -> None:
    compare(case, "cpp", arguments(case, 15, 103, f=f))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("atoms", "edges"), [(1, 0), (3, 0), (2, 3)])
def test_few_atoms_and_no_edges(case: str, atoms: int, edges: int) -> None:
    compare(case, FAST[case.split()[0]], arguments(case, atoms, edges))


@pytest.mark.parametrize("case", IN_CPP)
def test_derivatives_by_finite_differences(case: str) -> None:
    kernel, given = implementation(case.split()[0], "cpp"), arguments(case, 3, 5)
    tensors, edges = [a for a in given if a.is_floating_point()], [a for a in given if not a.is_floating_point()]
    assert torch.autograd.gradcheck(lambda *some: kernel(*some, *edges), tensors)
    assert torch.autograd.gradgradcheck(lambda *some: kernel(*some, *edges), tensors)


@pytest.mark.parametrize("case", ["exchange", "exchange without vectors"])
def test_a_filter_that_does_not_learn_has_no_gradient_and_changes_no_other(case: str) -> None:
    given = arguments(case)
    exact = observed(kernel_module("exchange").reference, given, torch.float64)
    given[2].requires_grad_(False)
    expected = observed(kernel_module("exchange").reference, given, torch.float64)
    found = observed(implementation("exchange", "cpp"), given, torch.float64)
    assert len(found) == len(exact) - 2
    assert deviation(found, expected) < 1e-11


def test_halves_of_edges() -> None:
    edges = torch.from_numpy(neighbour_pairs(molecule("C60").positions, 4.0))
    found = exchange.halves(edges, 60)
    assert torch.equal(found, edges[:, edges[0] < edges[1]])
    assert exchange.halves(edges[:, :0], 60).shape == (2, 0)
    for lost in range(0, edges.shape[1], 5):
        one_way = torch.cat([edges[:, :lost], edges[:, lost + 1 :]], dim=1)
        assert exchange.halves(one_way, 60) is None
    assert exchange.halves(edges.flip(1), 60) is None
    assert exchange.halves(torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0]]), 2) is None  # each edge twice
    assert exchange.halves(torch.tensor([[0], [0]]), 1) is None  # its own neighbour


def test_a_student_takes_edges_that_go_one_way() -> None:
    some = [molecule("CH3CH2OH")]
    student = make_student("painn", {"features": 16, "layers": 2}, Support.of(some)).double()
    batch = student.collate(some, torch.float64)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(*(one_way(student, batch, drop) for drop in (0, 1)))
    with in_plain_torch():
        exact = one_way(student, batch, 1)
    torch.testing.assert_close(one_way(student, batch, 1), exact)


@pytest.mark.parametrize("learns", [True, False])
def test_a_painn_inside_torch_func(learns: bool) -> None:
    some = [molecule("CH3CH2OH"), molecule("H2O")]
    student = make_student("painn", {"features": 16, "layers": 2}, Support.of(some)).double().requires_grad_(learns)
    batch = student.collate(some, torch.float64)
    found = torch.func.grad(lambda positions: student.interaction_energy(batch.at(positions)).sum())(batch.positions)
    torch.testing.assert_close(-found.detach(), energy_and_forces(student, batch).forces)


@pytest.mark.parametrize("case", ["message", "attention"])
def test_unsorted_edges_are_refused(case: str) -> None:
    *tensors, edges = arguments(case)
    with pytest.raises(ValueError, match="sorted by receiver; edge 9 has receiver 7 after 8"):
        implementation(case, "cpp")(*tensors, edges.flip(1))


def test_several_dtypes_are_refused() -> None:
    x, *rest = arguments("message")
    with pytest.raises(TypeError, match="one dtype"):
        implementation("message", "cpp")(x.float(), *rest)


def test_names() -> None:
    assert kernel_names() == sorted(FAST)
    for kernel in kernel_names():
        assert {"eager", "compiled"} < set(kernel_module(kernel).IMPLEMENTATIONS)
    with pytest.raises(UnknownName, match="did you mean 'message'"):
        implementation("mesage", "cpp")
    with pytest.raises(UnknownName, match="did you mean 'eager'"):
        implementation("message", "eagre")


def test_without_a_compiler_the_students_use_plain_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr("hydrogate.models.kernels._CHOSEN", {})
    _native.library.cache_clear()
    with pytest.raises(NotAvailable, match=r"cannot be built here: .*no-such-compiler"):
        implementation("message", "cpp")
    with pytest.warns(UserWarning, match="runs slower, in plain torch"):
        assert fastest("message", "cpu") == "eager"
    assert fastest("message", "cpu") == "eager"
    assert fastest("exchange", "cuda") == "eager"  # there is no Triton kernel, and no warning
    _native.library.cache_clear()


def test_what_is_chosen_is_asked_once_and_can_be_chosen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = fastest("message", "cpu")
    asked: list[str] = []
    monkeypatch.setattr("hydrogate.models.kernels.kernel_names", lambda: asked.append("") or ["message"])
    assert fastest("message", "cpu") == chosen
    assert not asked
    with in_plain_torch():
        assert (fastest("message", "cpu"), fastest("message", "cuda")) == ("eager", "eager")
    assert fastest("message", "cpu") == chosen
    with pytest.raises(UnknownName, match="did you mean 'message'"):
        fastest("mesage", "cpu")


@pytest.mark.parametrize("name", student_names())
def test_a_trained_student_is_as_exact_with_its_kernels(name: str) -> None:
    some = [molecule("CH3CH2OH"), molecule("CH3CONH2"), molecule("H2O")]
    torch.manual_seed(0)
    student = make_student(name, {"features": 16, "layers": 2}, Support.of(some))
    batch, parameters = student.collate(some), list(student.parameters())
    target = 3.0 * torch.randn(len(batch.numbers), 3)
    optimizer = torch.optim.Adam(parameters, lr=1e-2)

    def step() -> list[Tensor]:
        energy, forces, _ = energy_and_forces(student, batch, create_graph=True)
        loss = energy.square().mean() + (forces - target).square().mean()
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True, allow_unused=True)
        return [loss.detach(), energy.detach(), forces.detach(), *gradients]

    losses = []
    for _ in range(30):
        loss, _, _, *gradients = step()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.9 * losses[0]
    student, batch, target = student.double(), batch.to("cpu", torch.float64), target.double()
    found = step()
    with in_plain_torch():
        exact = step()
    assert any(
        float((f - e).abs().max()) > 0 for f, e in zip(found, exact, strict=True)
    )  # the two implementations really differ
    assert deviation(found, exact) < 1e-10


def test_triton_in_its_interpreter() -> None:
    environment = dict(os.environ) | {"TRITON_INTERPRET": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["passed"]


if __name__ == "__main__":
    for some in IN_TRITON:
        for count, between in ((4, 9), (1, 0), (3, 0)):
            compare(some, "triton", arguments(some, count, between))
    print("passed")
