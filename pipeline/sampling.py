"""Further geometries of a molecule: rattled, or from a short Langevin run with a force field. Å, K.

Without them nothing can be learned about hydrogen: hydrogens that a force field placed all have one bond length.
"""

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from hydrogate.pipeline.sdf import Molecule, force_field

if TYPE_CHECKING:
    from hydrogate.pipeline.sdf import Mol

# Å: contract check min_distance refuses below the first and warns below the second.
NEAREST, NEAREST_UNREMARKABLE = 0.6, 0.8
# Standard deviations of a bond's length. Beyond, the tail of the Gaussian alone decides the largest force of the data
# set: a triple bond shortened by 0.23 Å pulls with 55 eV/Å, and the labels contract refuses 50.
BOND_CHANGE = 2.5
REDRAWS = 200
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


def rattle(mol: "Mol", count: int, sigma: float, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """``count`` geometries of ``mol`` (n, 3), each coordinate moved by a Gaussian of ``sigma`` Å.

    A draw that brings two atoms within 0.8 Å (down to 0.6 Å where ``mol`` has them near) or changes a bond by more than
    ``BOND_CHANGE`` standard deviations is drawn again, at most ``REDRAWS`` times; then the least distorted draw is
    taken, and contract check ``min_distance`` judges it.
    """
    positions = mol.GetConformer().GetPositions()
    ends = np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()], dtype=np.int64).reshape(-1, 2)
    before = _lengths(positions, ends)
    own = 0.9 * pdist(positions).min(initial=np.inf)
    allowed = max(NEAREST, min(NEAREST_UNREMARKABLE, own))

    def distortion(drawn: NDArray[np.float64]) -> float:
        """1 at the edge of what is allowed."""
        nearest = pdist(drawn).min(initial=np.inf)
        change = np.abs(_lengths(drawn, ends) - before).max(initial=0.0)
        return float(max(allowed / max(nearest, 1e-6), change / (BOND_CHANGE * np.sqrt(2.0) * sigma)))

    def draw() -> NDArray[np.float64]:
        best: NDArray[np.float64] = positions
        least = np.inf
        for _ in range(REDRAWS):
            drawn = positions + rng.normal(scale=sigma, size=positions.shape)
            if (found := distortion(drawn)) < least:
                best, least = drawn, found
            if least <= 1.0:
                break
        return best

    return [draw() for _ in range(count)]


def _lengths(positions: NDArray[np.float64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    vectors = positions[ends[:, 0]] - positions[ends[:, 1]]
    lengths: NDArray[np.float64] = np.sqrt((vectors**2).sum(axis=1))
    return lengths


class ForceField(Calculator):
    """MMFF (or UFF) of RDKit as an ASE calculator: energy in eV, forces in eV/Å."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012  (ASE's own declaration)

    def __init__(self, mol: "Mol") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._field = force_field(mol)

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        """Fill ``results`` for the positions of ``atoms``."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        assert self.atoms is not None
        flat = self.atoms.positions.ravel().tolist()
        unit = units.kcal / units.mol
        self.results["energy"] = self._field.CalcEnergy(flat) * unit
        self.results["forces"] = -np.reshape(self._field.CalcGrad(flat), (-1, 3)) * unit


def langevin(mol: "Mol", count: int, temperature: float, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """``count`` geometries (n, 3) of a Langevin run at ``temperature`` K with MMFF, ``STEPS_BETWEEN`` fs apart.

    Raises
    ------
    ValueError
        Hydrogens are implicit, so that no force field can be set up, or none has parameters.
    """
    from ase.md.langevin import Langevin

    if any(atom.GetNumImplicitHs() or atom.GetNumExplicitHs() for atom in mol.GetAtoms()):
        raise ValueError("sampling by md needs explicit hydrogens: set regenerate.add_hydrogens, or sample by rattle")
    atoms = Atoms([atom.GetAtomicNum() for atom in mol.GetAtoms()], mol.GetConformer().GetPositions())
    atoms.calc = ForceField(mol)
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
