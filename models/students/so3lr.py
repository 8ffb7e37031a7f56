"""SO3LR: attention along the edges with degree-wise directions, and the physics that reaches beyond the cutoff.

An SO3krates core, nuclear repulsion, electrostatics between partial charges that add up to the total charge and are
taught by the dipole, and dispersion where it is asked for. Total charge and spin multiplicity are inputs.

Source: SO3LR, JACS 2025, 10.1021/jacs.5c09558; SO3krates, Nat. Commun. 15, 6539 (2024). Left out: Hirshfeld ratios,
which no teacher here gives (dispersion takes free atoms), and what provably reaches no energy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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

# Neighbours of an atom on average, so that sums over them stay of one size; and the decay of the radial functions in
# 1/Å (half an inverse bohr). Source: SO3LR's own settings.
NEIGHBOURS = 13.169
DECAY = 0.944863
# Charges start small: at 1 e each the electrostatics of a fresh student would be hundreds of eV.
FRESH_CHARGE = 0.1


@dataclass(frozen=True)
class Size:
    """Sizes of an SO3LR; the published one has 128 features and 3 layers.

    Parameters
    ----------
    features : int
        On each atom; a multiple of ``heads`` and of ``degrees``.
    layers : int
        Rounds of messages.
    heads : int
        Of the attention between invariant features; that between directions has one a degree.
    degrees : int
        Directions are spherical harmonics of degree 1 to this, 4 at most.
    radial : int
        Radial functions.
    cutoff : float, Å
        Of the messages; electrostatics and dispersion have none.
    dispersion : bool
        Whether there is dispersion between free atoms.
    """

    features: int = 64
    layers: int = 2
    heads: int = 4
    degrees: int = 4
    radial: int = 32
    cutoff: float = 4.5
    dispersion: bool = False


class PerHead(nn.Module):
    """A square matrix for each head's share of the features."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        width = features // heads
        self.heads = heads
        self.weight = nn.Parameter(torch.randn(heads, width, width) / math.sqrt(width))

    def forward(self, h: Tensor) -> Tensor:
        """(N, F) of (N, F)."""
        return torch.einsum("nhc,hcd->nhd", h.unflatten(1, (self.heads, -1)), self.weight).flatten(1)


class Scores(nn.Module):
    """How much each edge counts, by head: query and key of its ends, filtered by distance and by relative direction."""

    def __init__(self, size: Size, heads: int) -> None:
        super().__init__()
        f = size.features
        self.heads = heads
        self.radial = nn.Sequential(nn.Linear(size.radial, f), nn.SiLU(), nn.Linear(f, f))
        self.directional = nn.Sequential(nn.Linear(size.degrees, f // 4), nn.SiLU(), nn.Linear(f // 4, f))
        self.query, self.key = PerHead(f, heads), PerHead(f, heads)

    def parts(self, h: Tensor, radial: Tensor, apart: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query and key (N, heads, C) and filter (E, heads, C) of ``radial`` (E, K) and ``apart`` (E or 1, degrees),
        which is how far the directions of the two ends differ.
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
        """``h`` (N, F), ``e`` (N, C), ``radial`` (E, K), ``envelope`` (E, 1), ``y`` (E, C), ``spread`` (degrees, C)."""
        f = self.features
        # Slices and products, where `split` and `**2` would do: see `compiled_energy_and_forces`.
        norms = spread.transpose(0, 1) / torch.sqrt(spread.sum(1))
        # In the first layer there are no directions yet: one row stands for all edges.
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
    """What one number of a whole structure, its charge or its unpaired electrons, tells each of its atoms."""

    def __init__(self, elements: int, features: int) -> None:
        super().__init__()
        fresh = 1.0 / math.sqrt(features)
        self.query = nn.Parameter(torch.randn(elements, features) * fresh)
        # One row for numbers above zero, one for those below.
        self.key, self.value = (nn.Parameter(torch.randn(2, features) * fresh) for _ in range(2))
        self.refine = nn.Sequential(
            nn.SiLU(), nn.Linear(features, features, bias=False), nn.SiLU(), nn.Linear(features, features, bias=False)
        )

    def forward(self, number: Tensor, row: Tensor, structure: Tensor) -> Tensor:
        """(N, F) of ``number`` (M,), the elements' ``row`` (N,) and the owner (N,) of each atom; zero for zero."""
        sign = (number < 0).long()
        keys = self.key[sign][structure]
        share = softplus((self.query[row] * keys).sum(1) * (1.0 / math.sqrt(keys.shape[1])))
        # No share is zero, except to the last digit of single precision.
        total = share.new_zeros(len(number)).index_add(0, structure, share).clamp(min=1e-30)
        part = number.to(share.dtype)[structure] * share / total[structure]
        spread = part[:, None] * self.value[sign][structure]
        return spread + self.refine(spread)


class SO3LR(Student):
    """See the module."""

    name = "so3lr"
    reads_charge = True
    reads_pairs = True
    dipole_weight = 0.5
    kernels = ("attention",)
    compiled_step = CompiledStep(of_plain=0.55, of_kernels=0.6)  # docs/performance.md

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
        # The published weights start smaller, and so slowly that the first minutes of training are lost. Here features
        # start with variance one, and so does what filters make of radial functions, whose squares add to 1 / √(πK).
        nn.init.normal_(self.embedding.weight, std=math.sqrt(3.0))
        self.of_charge, self.of_spin = Whole(elements, f), Whole(elements, f)
        last = size.layers - 1
        self.layers = nn.ModuleList(Layer(size, first=n == 0, last=n == last) for n in range(size.layers))
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
            self.atom_charge[-1].weight *= FRESH_CHARGE
        for layer in self.layers:
            for scores in (layer.invariant, layer.equivariant):
                nn.init.normal_(scores.radial[0].weight, std=(math.pi * size.radial) ** 0.25)

    def collate(self, structures: Sequence[Atoms], dtype: torch.dtype = torch.float32) -> Batch:
        """See `Student.collate`; a lattice must be neutral and repeat in all directions, and takes no dispersion."""
        for index, atoms in enumerate(structures):
            if atoms.pbc.any():
                _refuse_lattice(f"structure {index} ({atoms.get_chemical_formula()})", atoms, self.size)
        return super().collate(structures, dtype)

    def interaction_energy(self, batch: Batch) -> Tensor:
        """(M,) eV."""
        return self.interaction_energy_and_dipole(batch)[0]

    def interaction_energy_and_dipole(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(M,) eV and (M, 3) e·Å."""
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
        """The terms of the energy, and the charges.

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
        """(M,) eV: electrostatics of the periodic structures, zero for the others."""
        energies = [charges.new_zeros(()) for _ in range(batch.n_structures)]
        for index in cells.flatten(1).any(1).nonzero()[:, 0].tolist():
            own = batch.structure == index
            energies[index] = lattice_electrostatics(charges[own], batch.positions[own], cells[index])
        return torch.stack(energies)

    def features_of(self, batch: Batch, row: Tensor, unit: Tensor, distance: Tensor, envelope: Tensor) -> Tensor:
        """(N, F) after the last layer."""
        unpaired = batch.spin_multiplicity - 1
        h = self.embedding(row) + self.of_charge(batch.charge, row, batch.structure)
        h = (h + self.of_spin(unpaired, row, batch.structure)) * (1.0 / math.sqrt(3.0))
        y = spherical_harmonics(unit, self.size.degrees)
        # Bernstein polynomials of x = exp(−γr), through their logarithms: (1 − x) is small where atoms are near.
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
        raise ValueError(f"size of student 'so3lr': degrees is {size.degrees}, at most {LARGEST_DEGREE} are there")
    if size.features < 4:  # a quarter of them filters directions
        raise ValueError(f"size of student 'so3lr': features is {size.features}, at least 4 are needed")
    for name in ("heads", "degrees"):
        if size.features % getattr(size, name):
            raise ValueError(
                f"size of student 'so3lr': {size.features} features do not divide among {getattr(size, name)} {name}; "
                "choose a multiple"
            )
    missing = [z for z in support.elements if size.dispersion and free_atom_table()[z].isnan().any()]
    if missing:
        raise ValueError(f"size of student 'so3lr': no dispersion is known for the elements {missing}; switch it off")


def _refuse_lattice(name: str, atoms: Atoms, size: Size) -> None:
    if not atoms.pbc.all():
        raise ValueError(
            f"{name} is periodic along {atoms.pbc.tolist()}; student 'so3lr' sums electrostatics over all three "
            "directions or none. Repeat it in all, with a gap where it should not"
        )
    if atoms.info.get("charge", 0) != 0:
        raise ValueError(
            f"{name} has charge {atoms.info['charge']} in each cell, so that its electrostatic energy is infinite; add "
            "the other ions"
        )
    if size.dispersion:
        raise ValueError(f"{name} is periodic; student 'so3lr' knows dispersion of isolated structures only")


def make(size: Size, support: Support) -> SO3LR:
    """An SO3LR with fresh weights."""
    return SO3LR(size, support)
