"""Every kernel and every implementation of it against the reference in double precision: values, gradients, and theirs.

The last is what training on forces needs. Triton runs in its interpreter, in a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ase.build import molecule
from torch import Tensor

from hydrogate.models import UnknownName
from hydrogate.models.kernels import (
    NotAvailable,
    _native,
    fastest,
    implementation,
    in_plain_torch,
    kernel_module,
    kernel_names,
)
from hydrogate.models.potential import Support, energy_and_forces
from hydrogate.models.students import make_student, student_names

FAST = [(kernel, name) for kernel, name in (("message", "cpp"), ("attention", "cpp"), ("radial", "folded"))]


def graph(atoms: int, edges: int) -> Tensor:
    """(2, E) random edges between different atoms, sorted by receiver."""
    receiver = torch.sort(torch.randint(atoms, (edges,))).values if atoms > 1 else torch.zeros(0, dtype=torch.int64)
    return torch.stack([receiver, (receiver + torch.randint(1, max(atoms, 2), receiver.shape)) % atoms])


def arguments(case: str, atoms: int = 9, edges: int = 40, scale: float = 1.0) -> list[Tensor | float]:
    """Arguments of a kernel in double precision; ``scale`` makes them as large as those of trained weights."""
    torch.manual_seed(0)
    along = graph(atoms, edges)
    e, f = along.shape[1], 5

    def some(*shape: int) -> Tensor:
        return (scale * torch.randn(*shape, dtype=torch.float64)).requires_grad_()

    if case == "message":
        return [some(atoms, 3 * f), some(e, 3 * f), some(e, 3), some(atoms, 3, f), along]
    if case == "message without vectors":
        return [some(atoms, 2 * f), some(e, 2 * f), some(e, 3), some(0, 3, f), along]
    if case == "attention":
        return [some(atoms, 2, f), some(atoms, 2, f), some(atoms, 2, f), some(e, 2, f), some(e, 1), along]
    distance = (0.8 + 4.2 * torch.rand(e, 1, dtype=torch.float64)).requires_grad_()
    return [distance, torch.arange(1, 7) * (torch.pi / 5.0), some(7, 6), some(7), 5.0]


CASES = ("message", "message without vectors", "attention", "radial")


def observed(kernel, given: list, dtype: torch.dtype) -> list[Tensor]:
    """Outputs, gradients of a function of them, and the gradients of a function of those gradients."""
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
    compare(case, dict(FAST)[case.split()[0]], arguments(case, scale=scale))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("atoms", "edges"), [(1, 0), (3, 0), (2, 3)])
def test_few_atoms_and_no_edges(case: str, atoms: int, edges: int) -> None:
    compare(case, dict(FAST)[case.split()[0]], arguments(case, atoms, edges))


@pytest.mark.parametrize("case", ["message", "message without vectors", "attention"])
def test_derivatives_by_finite_differences(case: str) -> None:
    kernel = implementation(case.split()[0], "cpp")
    *tensors, edges = arguments(case, 3, 5)
    assert torch.autograd.gradcheck(lambda *some: kernel(*some, edges), tensors)
    assert torch.autograd.gradgradcheck(lambda *some: kernel(*some, edges), tensors)


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
    assert kernel_names() == ["attention", "message", "radial"]
    for kernel in kernel_names():
        assert {"eager", "compiled"} < set(kernel_module(kernel).IMPLEMENTATIONS)
    with pytest.raises(UnknownName, match="did you mean 'message'"):
        implementation("mesage", "cpp")
    with pytest.raises(UnknownName, match="did you mean 'eager'"):
        implementation("message", "eagre")


def test_without_a_compiler_the_students_use_plain_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr("hydrogate.models.kernels._USABLE", {})
    _native.library.cache_clear()
    with pytest.raises(NotAvailable, match=r"cannot be built here: .*no-such-compiler"):
        implementation("message", "cpp")
    with pytest.warns(UserWarning, match="runs slower, in plain torch"):
        assert fastest("message", "cpu") == "eager"
    assert fastest("message", "cpu") == "eager"
    _native.library.cache_clear()


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
    assert any(float((f - e).abs().max()) > 0 for f, e in zip(found, exact, strict=True))  # two ways, in truth
    assert deviation(found, exact) < 1e-10


def test_triton_in_its_interpreter() -> None:
    environment = dict(os.environ) | {"TRITON_INTERPRET": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["passed"]


if __name__ == "__main__":
    for some in CASES[:3]:
        for count, between in ((4, 9), (1, 0), (3, 0)):
            compare(some, "triton", arguments(some, count, between))
    print("passed")
