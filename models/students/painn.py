"""PaiNN: scalars and vectors on the atoms, messages along the edges, rotation-equivariant by construction.

Source: Schütt, Unke, Gastegger, arXiv 2102.03150. Parts that provably do not affect the energy are left out: the first
layer has no vectors to mix, and nothing reads the vectors after the last layer. Total charge and spin are not inputs:
the student depends on them only through the geometry, and predicts only for values that it was trained on.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from hydrogate.models.batch import Batch
from hydrogate.models.kernels import _painn
from hydrogate.models.kernels.exchange import exchange, halves
from hydrogate.models.kernels.gate import gate
from hydrogate.models.kernels.invariants import invariants
from hydrogate.models.kernels.message import message
from hydrogate.models.kernels.radial import basis, slopes, with_bias
from hydrogate.models.potential import CompiledStep, Student, Support


@dataclass(frozen=True)
class Size:
    """Sizes of a PaiNN.

    Parameters
    ----------
    features : int
        Number of scalars, and of vectors, on each atom.
    layers : int
        Number of message rounds.
    radial : int
        Number of radial functions.
    cutoff : float, Å
    """

    features: int = 64
    layers: int = 3
    radial: int = 20
    cutoff: float = 5.0


class Layer(nn.Module):
    """One round of messages along the edges and one update of each atom."""

    def __init__(self, size: Size, first: bool, last: bool) -> None:
        super().__init__()
        f = size.features
        self.features, self.first = f, first
        sent = 2 if first else 3
        self.filter = nn.Linear(size.radial, sent * f)
        self.message = nn.Sequential(nn.Linear(f, f), nn.SiLU(), nn.Linear(f, sent * f))
        self.mix = nn.Linear(f, 2 * f, bias=False)
        self.update = nn.Sequential(nn.Linear(2 * f, f), nn.SiLU(), nn.Linear(f, (2 if last else 3) * f))

    def forward(
        self, s: Tensor, v: Tensor, functions: Tensor, unit: Tensor, along: Tensor, paired: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the updated ``s`` (N, F) and ``v`` (N, 3, F), which is (0, 3, F) before the first layer.

        ``functions`` (E, K + 1) are those of `basis`, and ``unit`` is (E, 3). E counts the edges ``along``, or the
        pairs if ``paired``.
        """
        f = self.features
        # Slices and products instead of `split` and `**2`: see `compiled_energy_and_forces`.
        weight, x = with_bias(self.filter.weight, self.filter.bias), self.message(s)
        if paired:
            received, vectors = exchange(x, functions, weight, unit, v, along)
        else:
            received, vectors = message(x, functions @ weight.T, unit, v, along)
        s = s + received
        v = vectors if self.first else v + vectors

        left, right = v @ self.mix.weight[:f].T, v @ self.mix.weight[f:].T
        added = gate(self.update(invariants(s, right)), left, right)
        if isinstance(added, Tensor):  # the last layer's
            return s + added, v
        return s + added[0], v + added[1]

    def weights(self) -> list[Tensor]:
        """Return all weights in the order of `hydrogate.models.kernels._painn`."""
        linear = cast(list[nn.Linear], [self.message[0], self.message[2], self.update[0], self.update[2]])
        own = [tensor for one in linear for tensor in (one.weight, one.bias)]
        return [with_bias(self.filter.weight, self.filter.bias), *own, self.mix.weight]


class PaiNN(Student):
    """The PaiNN student; see the module."""

    name = "painn"
    kernels = ("exchange", "gate", "invariants")
    compiled_step = CompiledStep(of_plain=0.3, of_kernels=1.0)  # docs/performance.md: the kernels are faster
    row_of_element: Tensor
    frequencies: Tensor

    def __init__(self, size: Size, support: Support) -> None:
        super().__init__(size, support)
        self.cutoff = size.cutoff
        row = torch.full((119,), -1)
        row[list(support.elements)] = torch.arange(len(support.elements))
        self.register_buffer("row_of_element", row)
        self.register_buffer("frequencies", torch.arange(1, size.radial + 1) * (math.pi / size.cutoff))
        self.embedding = nn.Embedding(len(support.elements), size.features)
        last = size.layers - 1
        self.layers = nn.ModuleList(Layer(size, first=k == 0, last=k == last) for k in range(size.layers))
        self.readout = nn.Sequential(
            nn.Linear(size.features, size.features), nn.SiLU(), nn.Linear(size.features, 1, bias=False)
        )

    def interaction_energy(self, batch: Batch) -> Tensor:
        """Return the interaction energies (M,) in eV."""
        # In a lattice, two atoms may be connected by many edges.
        pairs = halves(batch.edge_index, len(batch.numbers)) if batch.cell is None else None
        # Without forces, or if the weights' gradient may be needed, the operations run one by one.
        if pairs is not None and batch.positions.requires_grad and not self.embedding.weight.requires_grad:
            weights = self._weights()
            learns = any(weight.requires_grad for weight in weights)
            if not learns and _painn.takes(self.size.features, batch.positions):
                found: Tensor = _AtOnce.apply(  # type: ignore[no-untyped-call]  # torch has no types here
                    batch.positions, batch, pairs, self, weights
                )
                return found
        return self._by_operations(batch, pairs)

    def _weights(self) -> list[Tensor]:
        before, after = cast(list[nn.Linear], [self.readout[0], self.readout[2]])
        layers = cast(Iterable[Layer], self.layers)
        return [weight for layer in layers for weight in layer.weights()] + [before.weight, before.bias, after.weight]

    def _by_operations(self, batch: Batch, pairs: Tensor | None) -> Tensor:
        along = batch.edge_index if pairs is None else pairs
        unit, distance = _directions(batch.edge_vectors() if pairs is None else _between(batch.positions, pairs))
        functions = basis(distance, self.frequencies, self.cutoff)
        s = self.embedding(self.row_of_element[batch.numbers])
        v = s.new_empty(0, 3, s.shape[1])
        for layer in self.layers:
            s, v = layer(s, v, functions, unit, along, pairs is not None)
        return self._of_structures(self.readout(s)[:, 0], batch)

    def _at_once(self, batch: Batch, pairs: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the energies (M,) in eV and the gradient of their sum by the positions, (N, 3) eV/Å."""
        unit, distance = _directions(_between(batch.positions, pairs))
        radial = (distance, self.frequencies, self.cutoff)
        s = self.embedding(self.row_of_element[batch.numbers])
        atoms, gradient = _painn.energies(
            s, weights, distance, unit, basis(*radial), slopes(*radial), pairs, len(self.layers)
        )
        return self._of_structures(atoms, batch), gradient * self.energy_scale

    def _of_structures(self, atoms: Tensor, batch: Batch) -> Tensor:
        return atoms.new_zeros(batch.n_structures).index_add(0, batch.structure, atoms * self.energy_scale)


def _between(positions: Tensor, pairs: Tensor) -> Tensor:
    """Return the vectors (B, 3) in Å from the first atoms to the second."""
    return positions.index_select(0, pairs[1]) - positions.index_select(0, pairs[0])


def _directions(vector: Tensor) -> tuple[Tensor, Tensor]:
    """Return the unit vectors (E, 3) and lengths (E, 1) in Å of ``vector`` (E, 3)."""
    distance = torch.sqrt((vector * vector).sum(1, keepdim=True))
    return vector / distance, distance


class _AtOnce(torch.autograd.Function):
    """Energies of a student with constant weights, computed together with their gradient."""

    @staticmethod
    def forward(
        ctx: Any, positions: Tensor, batch: Batch, pairs: Tensor, student: PaiNN, weights: list[Tensor]
    ) -> Tensor:
        energy, gradient = student._at_once(batch, pairs, weights)
        ctx.save_for_backward(positions, gradient)
        ctx.rest = (batch, pairs, student)
        return energy

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        positions, gradient = ctx.saved_tensors
        batch, pairs, student = ctx.rest
        if torch.is_grad_enabled():
            # The gradient itself will be differentiated.
            energy = student._by_operations(batch.at(positions), pairs)
            (found,) = torch.autograd.grad(energy, positions, cotangent, create_graph=True, materialize_grads=True)
        else:
            found = gradient * cotangent[batch.structure, None]
        return found, None, None, None, None


def make(size: Size, support: Support) -> PaiNN:
    """Return a PaiNN with fresh weights."""
    return PaiNN(size, support)
