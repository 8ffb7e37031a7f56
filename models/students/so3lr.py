"""SO3LR: attention along the edges with degree-wise directions, and physical terms that reach beyond the cutoff.

The terms are an SO3krates core, nuclear repulsion, electrostatics between partial charges and, optionally, dispersion.
The partial charges add up to the total charge and are trained on the dipole. Total charge and spin multiplicity are
inputs.

Source: SO3LR, JACS 2025, 10.1021/jacs.5c09558; SO3krates, Nat. Commun. 15, 6539 (2024). Left out: Hirshfeld ratios,
which no teacher here provides (dispersion uses free atoms), and parts that provably do not affect the energy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from ase import Atoms
from torch import Tensor, nn
from torch.nn.functional import softplus

from hydrogate.models.batch import Batch
from hydrogate.models.harmonics import LARGEST_DEGREE, spherical_harmonics
from hydrogate.models.kernels.attention import attention
from hydrogate.models.pair_potentials import (
    Repulsion,
    dispersion,
    electrostatics,
    free_atom_table,
    lattice_electrostatics,
)
from hydrogate.models.potential import CompiledStep, Student, Support

# Average number of neighbours of an atom, which normalises sums over them; and the decay of the radial functions in
# 1/Å (half an inverse bohr). Source: SO3LR's own settings.
NEIGHBOURS = 13.169
DECAY = 0.944863
# Charges start small: at 1 e each, the electrostatics of a fresh student would be hundreds of eV.
FRESH_CHARGE = 0.1


@dataclass(frozen=True)
class Size:
    """Sizes of an SO3LR; the published model has 128 features and 3 layers.

    Parameters
    ----------
    features : int
        Number of features on each atom; a multiple of ``heads`` and of ``degrees``.
    layers : int
        Number of message rounds.
    heads : int
        Heads of the attention between invariant features; the attention between directions has one per degree.
    degrees : int
        Directions are spherical harmonics of degree 1 to ``degrees``, at most 4.
    radial : int
        Number of radial functions.
    cutoff : float, Å
        Cutoff of the messages; electrostatics and dispersion have none.
    dispersion : bool
        Whether to add dispersion between free atoms.
    """

    features: int = 64
    layers: int = 2
    heads: int = 4
    degrees: int = 4
    radial: int = 32
    cutoff: float = 4.5
    dispersion: bool = False


class PerHead(nn.Module):
    """Linear map with a square matrix for each head's share of the features."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        width = features // heads
        self.heads = heads
        self.weight = nn.Parameter(torch.randn(heads, width, width) / math.sqrt(width))

    def forward(self, h: Tensor) -> Tensor:
        """Map features (N, F) to (N, F)."""
        by_head: Tensor = h.unflatten(1, (self.heads, -1))  # type: ignore[no-untyped-call]  # torch has no types here
        return torch.einsum("nhc,hcd->nhd", by_head, self.weight).flatten(1)


class Scores(nn.Module):
    """Attention scores of the edges by head: query and key of the ends, filtered by distance and direction."""

    def __init__(self, size: Size, heads: int) -> None:
        super().__init__()
        f = size.features
        self.heads = heads
        self.radial = nn.Sequential(nn.Linear(size.radial, f), nn.SiLU(), nn.Linear(f, f))
        self.directional = nn.Sequential(nn.Linear(size.degrees, f // 4), nn.SiLU(), nn.Linear(f // 4, f))
        self.query, self.key = PerHead(f, heads), PerHead(f, heads)

    def parts(self, h: Tensor, radial: Tensor, apart: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query and key (N, heads, C), and filter (E, heads, C).

        The filter depends on ``radial`` (E, K) and on ``apart`` (E or 1, degrees), the difference between the
        directions of the two ends.
        """
        kernel = self.radial(radial) + self.directional(apart)
        query, key, kernel = (part.unflatten(1, (self.heads, -1)) for part in (self.query(h), self.key(h), kernel))
        return query, key, kernel


class Layer(nn.Module):
    """One round of messages along the edges, and one exchange between features and directions on each atom."""

    def __init__(self, size: Size, first: bool, last: bool) -> None:
        super().__init__()
        f = size.features
        self.features, self.heads, self.first, self.last = f, size.heads, first, last
        self.invariant, self.equivariant = Scores(size, size.heads), Scores(size, size.degrees)
        self.value = PerHead(f, size.heads)
        self.before, self.after = nn.LayerNorm(f, eps=1e-6), nn.LayerNorm(f, eps=1e-6)
        self.refine = nn.Sequential(nn.SiLU(), nn.Linear(f, f), nn.SiLU(), nn.Linear(f, f))
        # Nothing reads the directions after the last layer.
        self.exchange = nn.Linear(f + size.degrees, f + (0 if last else size.degrees))

    def forward(
        self, h: Tensor, e: Tensor, radial: Tensor, envelope: Tensor, y: Tensor, edges: Tensor, spread: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the updated ``h`` (N, F) and ``e`` (N, C).

        ``radial`` is (E, K), ``envelope`` (E, 1), ``y`` (E, C) and ``spread`` (degrees, C).
        """
        f = self.features
        # Slices and products instead of `split` and `**2`: see `compiled_energy_and_forces`.
        norms = spread.transpose(0, 1) / torch.sqrt(spread.sum(1))
        # In the first layer there are no directions yet: one row represents all edges.
        difference = e.new_zeros(1, e.shape[1]) if self.first else e[edges[1]] - e[edges[0]]
        apart = (difference * difference) @ norms
        query, key, kernel = self.equivariant.parts(h, radial, apart)
        turns = (query[edges[0]] * kernel * key[edges[1]]).sum(2) * envelope
        e = e.index_add(0, edges[0], (turns @ spread) * y)
        query, key, kernel = self.invariant.parts(h, radial, apart)
        value = self.value(h).unflatten(1, (self.heads, -1))
        h = self.before(h + attention(query, key, value, kernel, envelope, edges).flatten(1))
        h = h + self.refine(h)
        exchanged = self.exchange(torch.cat([h, (e * e) @ norms], dim=1))
        h = self.after(h + exchanged[:, :f])
        if not self.last:
            e = e * (1.0 + exchanged[:, f:] @ spread)
        return h, e


class Whole(nn.Module):
    """Embedding of one number per structure, its charge or its unpaired electrons, on each of its atoms."""

    def __init__(self, elements: int, features: int) -> None:
        super().__init__()
        fresh = 1.0 / math.sqrt(features)
        self.query = nn.Parameter(torch.randn(elements, features) * fresh)
        # One row for numbers above zero, one for numbers below.
        self.key, self.value = (nn.Parameter(torch.randn(2, features) * fresh) for _ in range(2))
        self.refine = nn.Sequential(
            nn.SiLU(), nn.Linear(features, features, bias=False), nn.SiLU(), nn.Linear(features, features, bias=False)
        )

    def forward(self, number: Tensor, row: Tensor, structure: Tensor) -> Tensor:
        """Return the embedding (N, F), which is zero for a number of zero.

        ``number`` is (M,); ``row`` (N,) is the row of each atom's element, and ``structure`` (N,) its owner.
        """
        sign = (number < 0).long()
        keys = self.key[sign][structure]
        share = softplus((self.query[row] * keys).sum(1) * (1.0 / math.sqrt(keys.shape[1])))
        # A share is never zero, except by underflow in single precision.
        total = share.new_zeros(len(number)).index_add(0, structure, share).clamp(min=1e-30)
        part = number.to(share.dtype)[structure] * share / total[structure]
        spread = part[:, None] * self.value[sign][structure]
        refined: Tensor = self.refine(spread)
        return spread + refined


class SO3LR(Student):
    """The SO3LR student; see the module."""

    name = "so3lr"
    reads_charge = True
    reads_pairs = True
    dipole_weight = 0.5
    kernels = ("attention",)
    compiled_step = CompiledStep(of_plain=0.55, of_kernels=0.6)  # docs/performance.md
    row_of_element: Tensor
    spread: Tensor
    rising: Tensor
    free_atoms: Tensor

    def __init__(self, size: Size, support: Support) -> None:
        super().__init__(size, support)
        _refuse(size, support)
        self.cutoff = size.cutoff
        f, elements = size.features, len(support.elements)
        row = torch.full((119,), -1)
        row[list(support.elements)] = torch.arange(elements)
        self.register_buffer("row_of_element", row)
        degree = torch.tensor([l - 1 for l in range(1, size.degrees + 1) for _ in range(2 * l + 1)])  # noqa: E741
        self.register_buffer("spread", torch.nn.functional.one_hot(degree).T.float().contiguous())
        self.register_buffer("rising", torch.arange(size.radial).float())
        if size.dispersion:
            self.register_buffer("free_atoms", free_atom_table())

        self.embedding = nn.Embedding(elements, f)
        # The published weights start smaller, which makes the first minutes of training too slow. Here features start
        # with variance one, and so do the filters' outputs for radial functions, whose squares add up to 1 / √(πK).
        nn.init.normal_(self.embedding.weight, std=math.sqrt(3.0))
        self.of_charge, self.of_spin = Whole(elements, f), Whole(elements, f)
        last = size.layers - 1
        layers = [Layer(size, first=n == 0, last=n == last) for n in range(size.layers)]
        self.layers = nn.ModuleList(layers)
        self.atom_energy, self.atom_charge = (
            nn.Sequential(nn.Linear(f, f), nn.SiLU(), nn.Linear(f, 1, bias=False)) for _ in range(2)
        )
        self.energy_factor = nn.Parameter(torch.ones(elements))
        self.energy_shift, self.charge_shift = (nn.Parameter(torch.zeros(elements)) for _ in range(2))
        self.repulsion = Repulsion()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=1.0 / math.sqrt(module.in_features))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():
            cast(nn.Linear, self.atom_charge[-1]).weight *= FRESH_CHARGE
        for layer in layers:
            for scores in (layer.invariant, layer.equivariant):
                nn.init.normal_(cast(nn.Linear, scores.radial[0]).weight, std=(math.pi * size.radial) ** 0.25)

    def collate(self, structures: Sequence[Atoms], dtype: torch.dtype = torch.float32) -> Batch:
        """Return ``structures`` as a batch; see `Student.collate`.

        A lattice must be neutral and periodic in all directions, and dispersion is not supported for it.
        """
        for index, atoms in enumerate(structures):
            if atoms.pbc.any():
                _refuse_lattice(f"structure {index} ({atoms.symbols.get_chemical_formula()})", atoms, self.size)
        return super().collate(structures, dtype)

    def interaction_energy(self, batch: Batch) -> Tensor:
        """Return the interaction energies (M,) in eV."""
        return self.interaction_energy_and_dipole(batch)[0]

    def interaction_energy_and_dipole(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the interaction energies (M,) in eV and the dipoles (M, 3) in e·Å."""
        parts, charges = self.parts(batch)
        total = parts["atoms"].new_zeros(batch.n_structures)
        for owner, name in (
            (batch.structure, "atoms"),
            (batch.structure[batch.edge_index[0]], "repulsion"),
            (batch.structure[batch.all_pairs[0]], "electrostatics"),
            (batch.structure[batch.all_pairs[0]], "dispersion"),
        ):
            if name in parts:
                total = total.index_add(0, owner, parts[name])
        if batch.cell is not None:
            total = total + self._of_lattices(batch, batch.cell, charges)
        moments = charges[:, None] * batch.positions
        return total, moments.new_zeros(batch.n_structures, 3).index_add(0, batch.structure, moments)

    def parts(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the terms of the energy, and the charges.

        Returns
        -------
        dict of str to tensor
            eV: ``atoms`` (N,), ``repulsion`` (E,), ``electrostatics`` (P,) and, if any, ``dispersion`` (P,).
        charges : (N,), e
            They add up to each structure's total charge.
        """
        edges, pairs, row = batch.edge_index, batch.all_pairs, self.row_of_element[batch.numbers]
        vector = batch.edge_vectors()
        distance = torch.sqrt((vector * vector).sum(1, keepdim=True))
        u = distance * (1.0 / self.cutoff)
        envelope = 1.0 - u * u * u * (10.0 - u * (15.0 - 6.0 * u))
        h = self.features_of(batch, row, vector / distance, distance, envelope)

        parts = {
            "atoms": (self.energy_factor[row] * self.atom_energy(h)[:, 0] + self.energy_shift[row]) * self.energy_scale,
            "repulsion": self.repulsion(batch.numbers, distance[:, 0], envelope[:, 0], edges),
        }
        raw = self.atom_charge(h)[:, 0] + self.charge_shift[row]
        size = torch.ones_like(raw)
        totals = raw.new_zeros(2, batch.n_structures).index_add(1, batch.structure, torch.stack([raw, size]))
        charges = raw + ((batch.charge.to(raw.dtype) - totals[0]) / totals[1])[batch.structure]

        between = batch.positions[pairs[1]] - batch.positions[pairs[0]]
        far = torch.sqrt((between * between).sum(1))
        parts["electrostatics"] = electrostatics(charges, far, pairs)
        if self.size.dispersion:
            free = self.free_atoms[batch.numbers]
            parts["dispersion"] = dispersion(free[:, 0], free[:, 1], far, pairs)
        return parts, charges

    def _of_lattices(self, batch: Batch, cells: Tensor, charges: Tensor) -> Tensor:
        """Return the electrostatic energies (M,) in eV of the periodic structures, zero for the others."""
        energies = [charges.new_zeros(()) for _ in range(batch.n_structures)]
        for index in cells.flatten(1).any(1).nonzero()[:, 0].tolist():
            own = batch.structure == index
            energies[index] = lattice_electrostatics(charges[own], batch.positions[own], cells[index])
        return torch.stack(energies)

    def features_of(self, batch: Batch, row: Tensor, unit: Tensor, distance: Tensor, envelope: Tensor) -> Tensor:
        """Return the features (N, F) after the last layer."""
        unpaired = batch.spin_multiplicity - 1
        h: Tensor = self.embedding(row) + self.of_charge(batch.charge, row, batch.structure)
        h = (h + self.of_spin(unpaired, row, batch.structure)) * (1.0 / math.sqrt(3.0))
        y = spherical_harmonics(unit, self.size.degrees)
        # Bernstein polynomials of x = exp(−γr), by their logarithms, because (1 − x) is small for near atoms.
        logarithm = -DECAY * distance
        complement = torch.log(-torch.expm1(logarithm))
        rising, falling = self.rising, self.rising.flip(0)
        choose = torch.lgamma(rising[-1] + 1.0) - torch.lgamma(rising + 1.0) - torch.lgamma(falling + 1.0)
        radial = torch.exp(choose + rising * logarithm + falling * complement)
        scaled = envelope * (1.0 / NEIGHBOURS)
        e = y.new_zeros(len(h), y.shape[1])
        for layer in self.layers:
            h, e = layer(h, e, radial, scaled, y, batch.edge_index, self.spread)
        return h


def _refuse(size: Size, support: Support) -> None:
    if size.degrees > LARGEST_DEGREE:
        raise ValueError(f"size of student 'so3lr': degrees is {size.degrees}, at most {LARGEST_DEGREE} are supported")
    if size.features < 4:  # a quarter of them filters directions
        raise ValueError(f"size of student 'so3lr': features is {size.features}, at least 4 are needed")
    for name in ("heads", "degrees"):
        if size.features % getattr(size, name):
            raise ValueError(
                f"size of student 'so3lr': {size.features} features do not divide evenly among "
                f"{getattr(size, name)} {name}; choose a multiple"
            )
    missing = [z for z in support.elements if size.dispersion and free_atom_table()[z].isnan().any()]
    if missing:
        raise ValueError(
            f"size of student 'so3lr': no dispersion coefficients for the elements {missing}; set dispersion to false"
        )


def _refuse_lattice(name: str, atoms: Atoms, size: Size) -> None:
    if not atoms.pbc.all():
        raise ValueError(
            f"{name} is periodic along {atoms.pbc.tolist()}; student 'so3lr' supports periodicity in all "
            "three directions or in none, for its electrostatics. Make all periodic, with a vacuum gap where needed"
        )
    if atoms.info.get("charge", 0) != 0:
        raise ValueError(
            f"{name} has charge {atoms.info['charge']} in each cell, so its electrostatic energy is infinite; add "
            "counterions"
        )
    if size.dispersion:
        raise ValueError(f"{name} is periodic; student 'so3lr' supports dispersion only for isolated structures")


def make(size: Size, support: Support) -> SO3LR:
    """Return an SO3LR with fresh weights."""
    return SO3LR(size, support)
