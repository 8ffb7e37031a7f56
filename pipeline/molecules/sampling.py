"""Additional geometries of a molecule: rattled, rattled and partly relaxed, or from a short Langevin run. Å, K.

Without them a student cannot learn about hydrogen, because hydrogens placed by a force field all have the same bond
length. Relaxations and runs use MMFF (UFF without MMFF parameters), never the teacher: each of its energies costs as
much as a label.
"""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.data import covalent_radii
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from hydrogate.pipeline.molecules.hydrogens import force_field, springs
from hydrogate.pipeline.molecules.sdf import Molecule
from hydrogate.pipeline.params import Sampling

if TYPE_CHECKING:
    from hydrogate.pipeline.molecules.sdf import Mol

# Å: contract check min_distance fails below the first and warns below the second.
NEAREST, NEAREST_UNREMARKABLE = 0.6, 0.8
# Standard deviations of a bond length. Beyond this, the tail of the Gaussian alone determines the largest force of the
# data set: a triple bond shortened by 0.23 Å pulls with 55 eV/Å, and contract labels rejects 50.
BOND_CHANGE = 2.5
REDRAWS = 200
Drawn = TypeVar("Drawn")
# Limits of a relaxed draw: force-field energy above that of the molecule's own geometry (eV/atom), RMS displacement
# from each of its other geometries (Å), and distance of bonded atoms in units of the sum of their covalent radii.
# Rattling drug-like molecules by 0.05 Å raises the energy by 0.11 eV/atom, 0.18 at most.
HIGHEST_ENERGY, NEAREST_GEOMETRY, BONDED = 0.25, 0.03, 1.3
# fs; the period of an X-H stretch is 10 fs.
TIME_STEP = 1.0
WARM_UP_STEPS = 250
STEPS_BETWEEN = 100
FRICTION = 0.02 / units.fs


def generator(molecule: Molecule, seed: int) -> np.random.Generator:
    """Return a random generator seeded by the molecule and its geometry, not by its file position or process."""
    geometry = molecule.mol.GetConformer().GetPositions().astype("<f8").tobytes()
    digest = hashlib.sha256(f"{seed} {molecule.inchikey} {molecule.smiles} ".encode() + geometry).digest()
    return np.random.default_rng(list(digest))


class Geometries(NamedTuple):
    """Additional geometries (k, n, 3) in Å, and for each the index of its pair's other end, its own without a pair."""

    positions: NDArray[np.float64]
    partner: list[int]


def further_geometries(mol: "Mol", sampling: Sampling, rng: np.random.Generator) -> Geometries:
    """Sample ``per_structure`` geometries of ``mol``; the last ``2 * pairs`` are pairs x ± h·v about sampled centres x.

    The direction v is random and has no net translation; h, ``step``, is the RMS displacement of the atoms.

    Raises
    ------
    ValueError
        The method needs a force field, and hydrogens are implicit or no force field has parameters.
    """
    count = sampling.per_structure - sampling.pairs
    match sampling.method:
        case "none":
            return Geometries(np.empty((0, mol.GetNumAtoms(), 3)), [])
        case "rattle":
            found = rattle(mol, count, sampling.sigma, rng, sampling.hardest_pull)
        case "rattle_relax":
            found = rattle_relax(mol, count, sampling.sigma, sampling.relax_steps, rng)
        case "md":
            found = langevin(mol, count, sampling.temperature, rng)
    singles = count - sampling.pairs
    ends = [end for centre in found[singles:] for end in _pair(mol, centre, sampling, rng)]
    paired = [end for first in range(singles, singles + len(ends), 2) for end in (first + 1, first)]
    return Geometries(np.array([*found[:singles], *ends]), [*range(singles), *paired])


def rattle(
    mol: "Mol", count: int, sigma: float, rng: np.random.Generator, hardest_pull: float | None = None
) -> list[NDArray[np.float64]]:
    """Return ``count`` geometries of ``mol`` (n, 3), each coordinate displaced by a Gaussian of ``sigma`` Å.

    A draw beyond the limits of :class:`Distortion` is repeated, up to ``REDRAWS`` draws; after that the least distorted
    draw is used, and contract check ``min_distance`` judges it.
    """
    distortion = Distortion(mol, sigma, hardest_pull)
    positions = mol.GetConformer().GetPositions()
    return [
        _least_distorted(lambda: positions + rng.normal(scale=sigma, size=positions.shape), distortion)
        for _ in range(count)
    ]


def rattle_relax(
    mol: "Mol", count: int, sigma: float, steps: int, rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Return ``count`` geometries of ``mol`` (n, 3), rattled by ``sigma`` Å and relaxed for 1 to ``steps`` BFGS steps.

    Stiff bonds relax back and soft torsions stay displaced: geometries far from the start, with forces as in a
    simulation. A draw is repeated as in :func:`rattle`, and also if its bonds changed, if its energy is above
    ``HIGHEST_ENERGY``, or if it is within ``NEAREST_GEOMETRY`` of another geometry of the molecule.
    Source: rattle-and-relax, arXiv 2506.10956; the bounds are this project's.
    """
    from ase.optimize import BFGS

    atoms = _with_force_field(mol)
    own, energy = atoms.positions.copy(), atoms.get_potential_energy()  # type: ignore[no-untyped-call]
    distortion, bonded = Distortion(mol, sigma), _bonded(atoms)
    accepted = [own]

    def draw() -> NDArray[np.float64]:
        atoms.positions = _least_distorted(lambda: own + rng.normal(scale=sigma, size=own.shape), distortion)
        BFGS(atoms, logfile=None).run(steps=int(rng.integers(1, steps + 1)))  # type: ignore[no-untyped-call]
        return np.array(atoms.positions)

    def strangeness(positions: NDArray[np.float64]) -> float:
        atoms.positions = positions
        if (_bonded(atoms) != bonded).any():
            return np.inf
        above = (atoms.get_potential_energy() - energy) / len(atoms)  # type: ignore[no-untyped-call]
        apart = min(float(np.sqrt(((positions - other) ** 2).sum(axis=1).mean())) for other in accepted)
        return max(distortion.contact(positions), float(above) / HIGHEST_ENERGY, NEAREST_GEOMETRY / max(apart, 1e-6))

    for _ in range(count):
        accepted.append(_least_distorted(draw, strangeness))
    return accepted[1:]


def _bonded(atoms: Atoms) -> NDArray[np.bool_]:
    """Return a mask over atom pairs: True if the two atoms are as close as bonded atoms."""
    first, second = np.triu_indices(len(atoms), 1)
    radii = covalent_radii[atoms.numbers]
    near: NDArray[np.bool_] = pdist(atoms.positions) < BONDED * (radii[first] + radii[second])
    return near


def _pair(
    mol: "Mol", centre: NDArray[np.float64], sampling: Sampling, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``centre`` + h·v and ``centre`` − h·v for the least distorted of several random directions v."""
    distortion = Distortion(mol, sampling.sigma, sampling.hardest_pull)

    def draw() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        direction = rng.normal(size=centre.shape)
        direction -= direction.mean(axis=0)
        direction *= sampling.step / np.sqrt((direction**2).sum(axis=1).mean())
        return centre + direction, centre - direction

    return _least_distorted(draw, lambda ends: max(map(distortion, ends)))


class Distortion:
    """Distortion of a geometry of ``mol`` relative to the allowed limits: 1 at the limit.

    Two atoms may come as close as 0.8 Å (0.6 Å if ``mol`` itself has close atoms). A bond length may change by
    ``BOND_CHANGE`` standard deviations of the change that a displacement of ``sigma`` Å per coordinate causes. The
    force-field pull of a bond, k |d - r0|, may reach ``hardest_pull`` (eV/Å) or its value in ``mol``, so that a bond
    that is short in the input is not shortened further. For C#C, C#N, C=O and S=O a pull of 15 eV/Å here is 25 to
    32 eV/Å by GFN2-xTB.
    """

    def __init__(self, mol: "Mol", sigma: float, hardest_pull: float | None = None) -> None:
        positions = mol.GetConformer().GetPositions()
        ends = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()]
        self._ends = np.array(ends, dtype=np.int64).reshape(-1, 2)
        self._before = _lengths(positions, self._ends)
        own = 0.9 * pdist(positions).min(initial=np.inf)
        self._allowed = max(NEAREST, min(NEAREST_UNREMARKABLE, own))
        self._change = BOND_CHANGE * np.sqrt(2.0) * sigma
        unbound = np.zeros(len(ends)), self._before
        self._stiffness, self._rest = unbound if hardest_pull is None else springs(mol)
        self._hardest = np.maximum(hardest_pull or 1.0, self._pulls(self._before))

    def _pulls(self, lengths: NDArray[np.float64]) -> NDArray[np.float64]:
        pulls: NDArray[np.float64] = self._stiffness * np.abs(lengths - self._rest)
        return pulls

    def contact(self, positions: NDArray[np.float64]) -> float:
        """Return the distortion of the shortest interatomic distance alone."""
        nearest = pdist(positions).min(initial=np.inf)
        return float(self._allowed / max(nearest, 1e-6))

    def __call__(self, positions: NDArray[np.float64]) -> float:
        lengths = _lengths(positions, self._ends)
        change = np.abs(lengths - self._before).max(initial=0.0) / self._change
        pull = (self._pulls(lengths) / self._hardest).max(initial=0.0)
        return max(self.contact(positions), float(change), float(pull))


def _least_distorted(draw: Callable[[], Drawn], distortion: Callable[[Drawn], float]) -> Drawn:
    """Return the first draw with a distortion of at most 1, or the least distorted of ``REDRAWS`` draws."""
    best, least = (drawn := draw()), distortion(drawn)
    for _ in range(REDRAWS - 1):
        if least <= 1.0:
            break
        if (found := distortion(drawn := draw())) < least:
            best, least = drawn, found
    return best


def _lengths(positions: NDArray[np.float64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    vectors = positions[ends[:, 0]] - positions[ends[:, 1]]
    lengths: NDArray[np.float64] = np.sqrt((vectors**2).sum(axis=1))
    return lengths


class ForceField(Calculator):
    """RDKit's MMFF (or UFF) as an ASE calculator: energy in eV, forces in eV/Å."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012  (declared like this in ASE)

    def __init__(self, mol: "Mol") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._mol = mol  # keep a reference: the force field uses it
        self._field = force_field(mol)

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        """Fill ``results`` for the positions of ``atoms``."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        assert self.atoms is not None
        flat = self.atoms.positions.ravel().tolist()
        unit = units.kcal / units.mol
        self.results["energy"] = self._field.CalcEnergy(flat) * unit
        self.results["forces"] = -np.reshape(self._field.CalcGrad(flat), (-1, 3)) * unit


def _with_force_field(mol: "Mol") -> Atoms:
    if any(atom.GetNumImplicitHs() or atom.GetNumExplicitHs() for atom in mol.GetAtoms()):
        raise ValueError(
            "sampling by md or rattle_relax needs explicit hydrogens: set regenerate.add_hydrogens to true, or use "
            "method rattle"
        )
    atoms = Atoms([atom.GetAtomicNum() for atom in mol.GetAtoms()], mol.GetConformer().GetPositions())
    atoms.calc = ForceField(mol)
    return atoms


def langevin(mol: "Mol", count: int, temperature: float, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Return ``count`` geometries (n, 3) of a Langevin run at ``temperature`` K with MMFF, ``STEPS_BETWEEN`` fs apart.

    Raises
    ------
    ValueError
        Hydrogens are implicit, so no force field can be set up, or none has parameters.
    """
    from ase.md.langevin import Langevin

    atoms = _with_force_field(mol)
    # Maxwell-Boltzmann; the signature of ASE's function differs between versions.
    spread = np.sqrt(atoms.get_masses() * units.kB * temperature)[:, None]
    atoms.set_momenta(spread * rng.normal(size=(len(atoms), 3)))  # type: ignore[no-untyped-call]
    dynamics = Langevin(atoms, TIME_STEP * units.fs, temperature_K=temperature, friction=FRICTION, rng=rng, fixcm=False)
    dynamics.run(WARM_UP_STEPS)  # type: ignore[no-untyped-call]
    geometries = []
    for _ in range(count):
        dynamics.run(STEPS_BETWEEN)  # type: ignore[no-untyped-call]
        geometries.append(atoms.positions.copy())
    return geometries
