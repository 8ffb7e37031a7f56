"""Further geometries of a molecule: rattled, rattled and partly relaxed, or from a short Langevin run. Å, K.

Without them nothing can be learned about hydrogen: hydrogens that a force field placed all have one bond length. What
relaxes and runs is MMFF (UFF where it has no parameters), never the teacher: each of its energies would be a label.
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

# Å: contract check min_distance refuses below the first and warns below the second.
NEAREST, NEAREST_UNREMARKABLE = 0.6, 0.8
# Standard deviations of a bond's length. Beyond, the tail of the Gaussian alone decides the largest force of the data
# set: a triple bond shortened by 0.23 Å pulls with 55 eV/Å, and the labels contract refuses 50.
BOND_CHANGE = 2.5
REDRAWS = 200
Drawn = TypeVar("Drawn")
# Of a relaxed draw: the force field's energy over that of the molecule's own geometry (eV/atom), the RMS displacement
# from each of its other geometries (Å), and up to which share of two covalent radii atoms are bonded.
# Rattled by 0.05 Å, drug-like molecules are 0.11 eV/atom up, 0.18 at most.
HIGHEST_ENERGY, NEAREST_GEOMETRY, BONDED = 0.25, 0.03, 1.3
# fs: the period of an X-H stretch is 10 fs.
TIME_STEP = 1.0
WARM_UP_STEPS = 250
STEPS_BETWEEN = 100
FRICTION = 0.02 / units.fs


def generator(molecule: Molecule, seed: int) -> np.random.Generator:
    """Random numbers that belong to the molecule and its geometry, not to its place in a file or to a process."""
    geometry = molecule.mol.GetConformer().GetPositions().astype("<f8").tobytes()
    digest = hashlib.sha256(f"{seed} {molecule.inchikey} {molecule.smiles} ".encode() + geometry).digest()
    return np.random.default_rng(list(digest))


class Geometries(NamedTuple):
    """Further geometries (k, n, 3) in Å, and which of them is the other end of each one's pair, itself without one."""

    positions: NDArray[np.float64]
    partner: list[int]


def further_geometries(mol: "Mol", sampling: Sampling, rng: np.random.Generator) -> Geometries:
    """``per_structure`` geometries of ``mol``; the last ``2 * pairs`` of them lie in pairs about further ones, x ± h·v.

    The direction v is random, of no net translation; h, ``step``, is the RMS displacement of the atoms.

    Raises
    ------
    ValueError
        Hydrogens are implicit, and the method needs a force field, or none has parameters.
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
    """``count`` geometries of ``mol`` (n, 3), each coordinate moved by a Gaussian of ``sigma`` Å.

    A draw that goes beyond :class:`Distortion` is drawn again, at most ``REDRAWS`` times; then the least distorted
    draw is taken, and contract check ``min_distance`` judges it.
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
    """``count`` geometries of ``mol`` (n, 3), rattled by ``sigma`` Å and then relaxed for 1 to ``steps`` BFGS steps.

    The stiff bonds come back and the soft torsions stay: far from the start, at forces that a simulation meets. A draw
    is drawn again as in :func:`rattle`, and where its bonds are others, its energy is above ``HIGHEST_ENERGY``, or it
    is within ``NEAREST_GEOMETRY`` of another geometry of the molecule.
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
    """Of each two atoms, whether they are as near as bonded ones are."""
    first, second = np.triu_indices(len(atoms), 1)
    radii = covalent_radii[atoms.numbers]
    near: NDArray[np.bool_] = pdist(atoms.positions) < BONDED * (radii[first] + radii[second])
    return near


def _pair(
    mol: "Mol", centre: NDArray[np.float64], sampling: Sampling, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``centre`` + h·v and − h·v, the least distorted of some directions v."""
    distortion = Distortion(mol, sampling.sigma, sampling.hardest_pull)

    def draw() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        direction = rng.normal(size=centre.shape)
        direction -= direction.mean(axis=0)
        direction *= sampling.step / np.sqrt((direction**2).sum(axis=1).mean())
        return centre + direction, centre - direction

    return _least_distorted(draw, lambda ends: max(map(distortion, ends)))


class Distortion:
    """How far a geometry of ``mol`` is from what is allowed: 1 at the edge.

    Two atoms may come within 0.8 Å (down to 0.6 Å where ``mol`` has them near), a bond may change by ``BOND_CHANGE``
    standard deviations of what ``sigma`` Å in each coordinate does to it. By its force field, k |d - r0|, it may pull
    with ``hardest_pull`` (eV/Å), or as hard as in ``mol``: a bond that the input has short is not shortened again.
    By GFN2-xTB C#C, C#N, C=O and S=O pull with 25 to 32 eV/Å where they do with 15 here.
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
        """By the two nearest atoms alone."""
        nearest = pdist(positions).min(initial=np.inf)
        return float(self._allowed / max(nearest, 1e-6))

    def __call__(self, positions: NDArray[np.float64]) -> float:
        lengths = _lengths(positions, self._ends)
        change = np.abs(lengths - self._before).max(initial=0.0) / self._change
        pull = (self._pulls(lengths) / self._hardest).max(initial=0.0)
        return max(self.contact(positions), float(change), float(pull))


def _least_distorted(draw: Callable[[], Drawn], distortion: Callable[[Drawn], float]) -> Drawn:
    """The first draw of a distortion of at most 1, or the least distorted of ``REDRAWS``."""
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
    """MMFF (or UFF) of RDKit as an ASE calculator: energy in eV, forces in eV/Å."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012  (ASE's own declaration)

    def __init__(self, mol: "Mol") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._mol = mol  # the force field points into it
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
            "sampling by md or rattle_relax needs explicit hydrogens: set regenerate.add_hydrogens, or sample by rattle"
        )
    atoms = Atoms([atom.GetAtomicNum() for atom in mol.GetAtoms()], mol.GetConformer().GetPositions())
    atoms.calc = ForceField(mol)
    return atoms


def langevin(mol: "Mol", count: int, temperature: float, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """``count`` geometries (n, 3) of a Langevin run at ``temperature`` K with MMFF, ``STEPS_BETWEEN`` fs apart.

    Raises
    ------
    ValueError
        Hydrogens are implicit, so that no force field can be set up, or none has parameters.
    """
    from ase.md.langevin import Langevin

    atoms = _with_force_field(mol)
    # Maxwell-Boltzmann; ASE's function of that name is called otherwise from one version to the next.
    spread = np.sqrt(atoms.get_masses() * units.kB * temperature)[:, None]
    atoms.set_momenta(spread * rng.normal(size=(len(atoms), 3)))  # type: ignore[no-untyped-call]
    dynamics = Langevin(atoms, TIME_STEP * units.fs, temperature_K=temperature, friction=FRICTION, rng=rng, fixcm=False)
    dynamics.run(WARM_UP_STEPS)  # type: ignore[no-untyped-call]
    geometries = []
    for _ in range(count):
        dynamics.run(STEPS_BETWEEN)  # type: ignore[no-untyped-call]
        geometries.append(atoms.positions.copy())
    return geometries
