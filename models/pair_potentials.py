"""Physical pair potentials: screened nuclear repulsion, electrostatics and dispersion, in eV and Å.

Each is smooth, with finite second derivatives, for any two atoms at different positions, however far apart.
"""

import math

import numpy as np
import torch
from ase.units import Bohr, Hartree
from torch import Tensor, nn
from torch.nn.functional import softplus

# eV·Å. Energy of two charges of 1 e at 1 Å.
COULOMB: float = Hartree * Bohr
# Å. Charges are smeared, so that the network describes near atoms. Source: SO3LR, JACS 2025, 10.1021/jacs.5c09558.
SMEARING = 4.0
# 1/Å. Waves shorter than 2π over this add less than 1e-10 of the longest waves' share to a lattice's electrostatics.
SHORTEST_WAVE = 2.0 / SMEARING * math.sqrt(10.0 * math.log(10.0))
# Å. The repulsion is switched off between zero and this distance. Source: SO3LR.
REPULSION_END = 1.5

# Polarisability and C6 coefficient of free atoms, in atomic units (bohr³, hartree·bohr⁶).
# Source: Tkatchenko, Scheffler, Phys. Rev. Lett. 102, 073005 (2009), as used by SO3LR.
FREE_ATOMS = {
    1: (4.5, 6.5),
    6: (12.0, 46.6),
    7: (7.4, 24.2),
    8: (5.4, 15.6),
    9: (3.8, 9.52),
    15: (25.0, 185.0),
    16: (19.6, 134.0),
    17: (15.0, 94.6),
    35: (20.0, 162.0),
    53: (35.0, 385.0),
}
FINE_STRUCTURE = 0.00729735
# Width of the oscillators as a polynomial of ρ, and scale of the damping radius, in bohr.
# Source: vdW-QDO dispersion, 10.1021/acs.jctc.3c00797, as used by SO3LR.
WIDTH = (-0.00433008, 0.24428889, 0.04125273, -0.00078893)
DAMPING = 1.2 * 5.08


def switched_off(distance: Tensor, start: float, end: float) -> Tensor:
    """Return a switch that is one up to ``start`` and zero from ``end`` on, with continuous derivatives."""
    # σ(1−t) / (σ(1−t) + σ(t)) with σ(y) = exp(−1/y). Clamped where single precision cannot tell the value from zero or
    # one, so that no derivative of 1/t is infinite.
    t = ((distance - start) / (end - start)).clamp(0.01, 0.99)
    return torch.sigmoid(1.0 / t - 1.0 / (1.0 - t))


class Repulsion(nn.Module):
    """Screened repulsion of the nuclei, starting from the constants of Ziegler, Biersack and Littmark.

    Source: ZBL, The Stopping and Range of Ions in Solids (1985), trained as in SO3LR.
    """

    def __init__(self) -> None:
        super().__init__()
        self.exponents = nn.Parameter(_before_softplus([3.2, 0.9423, 0.4028, 0.2016]))
        self.coefficients = nn.Parameter(_before_softplus([0.1818, 0.5099, 0.2802, 0.02817]))
        self.power = nn.Parameter(_before_softplus([0.23]))
        self.inverse_length = nn.Parameter(_before_softplus([1.0 / (0.8854 * Bohr)]))

    def forward(self, numbers: Tensor, distance: Tensor, envelope: Tensor, edges: Tensor) -> Tensor:
        """Return the energy (E,) in eV of each directed edge, half of the pair's; ``distance``, ``envelope`` (E,)."""
        charge = numbers.to(distance.dtype)
        size = torch.pow(charge, softplus(self.power)) * softplus(self.inverse_length)
        reduced = distance * (size[edges[0]] + size[edges[1]])
        screening = torch.exp(-reduced[:, None] * softplus(self.exponents))
        weight = softplus(self.coefficients)
        screened = (screening * (weight / weight.sum())).sum(1)
        product = charge[edges[0]] * charge[edges[1]] * (0.5 * COULOMB)
        return product * screened / distance * envelope * switched_off(distance, 0.0, REPULSION_END)


def _before_softplus(values: list[float]) -> Tensor:
    """Return the numbers of which softplus gives ``values``."""
    return torch.log(torch.expm1(torch.tensor(values)))


def electrostatics(charges: Tensor, distance: Tensor, pairs: Tensor) -> Tensor:
    """Return the energy (P,) in eV of each pair of smeared charges (e) at ``distance`` (P,)."""
    product = charges[pairs[0]] * charges[pairs[1]] * COULOMB
    return product * torch.erf(distance * (1.0 / SMEARING)) / distance


def lattice_electrostatics(charges: Tensor, positions: Tensor, cell: Tensor) -> Tensor:
    """Return the energy () in eV of one cell of a lattice of smeared charges (e) that add up to zero, in a conductor.

    Ewald's method sums exactly the smeared interaction over waves, so nothing is left for the sum over pairs.

    Parameters
    ----------
    charges : (n,), e
    positions : (n, 3), Å
    cell : (3, 3), Å
        Cell vectors as rows.
    """
    exact = cell.detach().double().cpu().numpy()
    most = np.floor(SHORTEST_WAVE * np.linalg.norm(exact, axis=1) / (2.0 * np.pi)).astype(int)
    waves = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in most), indexing="ij"), axis=-1).reshape(-1, 3)
    # One wave of each opposite pair, without the constant wave, which does not affect neutral cells.
    waves = waves[len(waves) // 2 + 1 :]
    length = np.linalg.norm(2.0 * np.pi * waves @ np.linalg.inv(exact).T, axis=1)
    chosen = torch.as_tensor(waves[length <= SHORTEST_WAVE], dtype=cell.dtype, device=cell.device)
    k: Tensor = 2.0 * math.pi * chosen @ torch.linalg.inv(cell).T
    square = (k * k).sum(1)
    phase = k @ positions.T
    strength = (torch.cos(phase) @ charges) ** 2 + (torch.sin(phase) @ charges) ** 2
    volume: Tensor = torch.linalg.det(cell).abs()
    summed = (torch.exp(square * (-0.25 * SMEARING**2)) / square * strength).sum() * (4.0 * math.pi) / volume
    # A charge does not interact with itself.
    return COULOMB * (summed - (charges * charges).sum() / (SMEARING * math.sqrt(math.pi)))


def dispersion(polarisability: Tensor, c6: Tensor, distance: Tensor, pairs: Tensor) -> Tensor:
    """Return the energy (P,) in eV of each pair: damped C6, C8 and C10 of coupled oscillators.

    Parameters
    ----------
    polarisability, c6 : (N,), atomic units
        Values of each atom in its molecule.
    distance : (P,), Å
    pairs : (2, P) int64
    """
    a, b = polarisability[pairs[0]], polarisability[pairs[1]]
    c, d = c6[pairs[0]], c6[pairs[1]]
    sixth = 2.0 * c * d * a * b / (a * a * d + b * b * c)
    radius = torch.pow(0.5 * (a + b), 1.0 / 7.0)
    rho = radius * FINE_STRUCTURE ** (-4.0 / 21.0)
    width = WIDTH[0] + rho * (WIDTH[1] + rho * (WIDTH[2] + rho * WIDTH[3]))
    # 1 / γ of the oscillators.
    area = 2.0 * width * width
    eighth, tenth = sixth * (5.0 * area), sixth * (245.0 / 8.0 * area * area)
    damped = radius * DAMPING
    inverse = 1.0 / (damped * damped)
    # Powers of the distance over the damping radius overflow much later than powers of the distance.
    t = distance * distance * (inverse * (1.0 / (Bohr * Bohr)))
    square, third = t * t, inverse * inverse * inverse
    series = sixth / (1.0 + t * square)
    series = series + eighth * inverse / (1.0 + square * square)
    series = series + tenth * (inverse * inverse) / (1.0 + t * square * square)
    energy: Tensor = series * third * -Hartree
    return energy


def free_atom_table() -> Tensor:
    """Return a table (119, 2) of polarisability and C6 by atomic number; NaN for elements that are not in it."""
    table = torch.full((119, 2), math.nan)
    for number, values in FREE_ATOMS.items():
        table[number] = torch.tensor(values)
    return table
