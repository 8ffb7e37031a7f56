"""PaiNN: scalars and vectors on the atoms, messages along the edges, rotation-equivariant by construction.

Source: Schütt, Unke, Gastegger, arXiv 2102.03150. What provably reaches no energy is left out: the first layer has no
vectors to mix, and nothing reads the vectors after the last. Total charge and spin are no inputs: the student knows
them only through the geometry, and is asked only about those that it was taught.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hydrogate.models.batch import Batch
from hydrogate.models.kernels.exchange import exchange, halves
from hydrogate.models.kernels.gate import gate
from hydrogate.models.kernels.invariants import invariants
from hydrogate.models.kernels.message import message
from hydrogate.models.kernels.radial import basis, with_bias
from hydrogate.models.potential import CompiledStep, Student, Support


@dataclass(frozen=True)
class Size:
    """Sizes of a PaiNN.

    Parameters
    ----------
    features : int
        Scalars, and vectors, on each atom.
    layers : int
        Rounds of messages.
    radial : int
        Radial functions.
    cutoff : float, Å
    """

    features: int = 64
    layers: int = 3
    radial: int = 20
    cutoff: float = 5.0


class Layer(nn.Module):
    """One round of messages along the edges and one update on each atom."""

    def __init__(self, size: Size, first: bool, last: bool) -> None:
        super().__init__()
        f = size.features
        self.features, self.first, self.last = f, first, last
        sent = 2 if first else 3
        self.filter = nn.Linear(size.radial, sent * f)
        self.message = nn.Sequential(nn.Linear(f, f), nn.SiLU(), nn.Linear(f, sent * f))
        self.mix = nn.Linear(f, 2 * f, bias=False)
        self.update = nn.Sequential(nn.Linear(2 * f, f), nn.SiLU(), nn.Linear(f, (2 if last else 3) * f))

    def forward(
        self, s: Tensor, v: Tensor, functions: Tensor, unit: Tensor, along: Tensor, paired: bool
    ) -> tuple[Tensor, Tensor]:
        """``s`` (N, F), ``v`` (N, 3, F), at first (0, 3, F), ``functions`` (E, K + 1) of `basis`, ``unit`` (E, 3).

        E are the edges ``along``, or, where ``paired``, the pairs.
        """
        f = self.features
        # Slices and products, where `split` and `**2` would do: see `compiled_energy_and_forces`.
        weight, x = with_bias(self.filter.weight, self.filter.bias), self.message(s)
        if paired:
            received, vectors = exchange(x, functions, weight, unit, v, along)
        else:
            received, vectors = message(x, functions @ weight.T, unit, v, along)
        s = s + received
        v = vectors if self.first else v + vectors

        left, right = v @ self.mix.weight[:f].T, v @ self.mix.weight[f:].T
        added = gate(self.update(invariants(s, right)), left, right)
        if self.last:
            return s + added, v
        return s + added[0], v + added[1]


class PaiNN(Student):
    """See the module."""

    name = "painn"
    kernels = ("exchange", "gate", "invariants")
    compiled_step = CompiledStep(of_plain=0.3, of_kernels=1.0)  # docs/performance.md: the kernels are faster
    elements: Tensor
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
        """(M,) eV."""
        pairs = halves(batch.edge_index, len(batch.numbers))
        along = batch.edge_index if pairs is None else pairs
        vector = batch.positions.index_select(0, along[1]) - batch.positions.index_select(0, along[0])
        distance = torch.sqrt((vector * vector).sum(1, keepdim=True))
        unit = vector / distance
        functions = basis(distance, self.frequencies, self.cutoff)
        s = self.embedding(self.row_of_element[batch.numbers])
        v = s.new_empty(0, 3, s.shape[1])
        for layer in self.layers:
            s, v = layer(s, v, functions, unit, along, pairs is not None)
        atoms = self.readout(s)[:, 0] * self.energy_scale
        return atoms.new_zeros(batch.n_structures).index_add(0, batch.structure, atoms)


def make(size: Size, support: Support) -> PaiNN:
    """A PaiNN with fresh weights."""
    return PaiNN(size, support)
