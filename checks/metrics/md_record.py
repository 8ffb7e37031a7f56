"""MD protocol and stability limits, recorded trajectories, and energy drift."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple, Self

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray
from pydantic import Field, model_validator

from hydrogate.checks.declarations import Section
from hydrogate.checks.metrics.bootstrap import LEVEL, Floats

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

# Number of blocks of a trajectory whose means are treated as independent. A block is long compared with the slowest
# vibration of a molecule, and the blocks suffice for a standard error with eight degrees of freedom.
BLOCKS = 10
FRAMES_PER_BLOCK = 2
MOST_STEPS = 10**8  # per molecule; takes days


class StabilityLimits(Section):
    """Limits for a stable molecule in ``nve_ps`` ps of NVE dynamics; a shorter run cannot show stability.

    Parameters
    ----------
    hydrogen_distance : float, Å
        Largest distance of a hydrogen from its bonded atom.
    bond_change : float, Å
        Largest change of any bond length, in either direction.
    drift : float, meV/atom/ps
        Largest absolute slope of the total energy.
    exploded_bond, exploded_temperature : float
        Multiples of the initial bond length and of the set temperature beyond which the run counts as exploded.
    """

    nve_ps: Positive = 10.0
    hydrogen_distance: Positive = 2.5
    bond_change: Positive = 0.5
    drift: Positive = 0.5
    exploded_bond: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 2.0
    exploded_temperature: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 10.0


class MdProtocol(Section):
    """Protocol of the MD run for `StabilityLimits`: relaxation, Langevin warm-up, then NVE dynamics.

    Parameters
    ----------
    count : int
        Number of molecules, drawn at random.
    temperature : float, K
    time_step_fs, warm_up_ps, nve_ps : float
    friction : float, 1/fs
        Friction coefficient of the Langevin warm-up.
    relax_fmax : float, eV/Å
        Convergence criterion of the relaxation.
    relax_steps : int
        Maximum number of relaxation steps; a molecule that has not converged continues as it is.
    interval : int
        Number of steps between recorded frames.
    seed : int
    """

    count: Annotated[int, Field(gt=0)] = 20
    temperature: Positive = 300.0
    time_step_fs: Positive = 0.5
    warm_up_ps: NonNegative = 2.0
    nve_ps: Positive = 10.0
    friction: Positive = 0.02
    relax_fmax: Positive = 0.1
    relax_steps: Annotated[int, Field(ge=0)] = 200
    interval: Annotated[int, Field(gt=0)] = 20
    seed: Annotated[int, Field(ge=0)] = 0
    limits: StabilityLimits = StabilityLimits()

    @model_validator(mode="after")
    def _comes_to_an_end(self) -> Self:
        steps = (self.warm_up_ps + self.nve_ps) * 1000.0 / self.time_step_fs
        if steps > MOST_STEPS:
            raise ValueError(
                f"warm_up_ps and nve_ps need {steps:g} steps of {self.time_step_fs:g} fs; the limit is {MOST_STEPS:g}"
            )
        return self

    @property
    def steps(self) -> tuple[int, int, int]:
        """Maximum number of relaxation steps, number of warm-up steps, and number of NVE steps (at least one)."""
        warm_up, nve = (round(ps * 1000.0 / self.time_step_fs) for ps in (self.warm_up_ps, self.nve_ps))
        return self.relax_steps, warm_up, max(1, nve)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Trajectory of one molecule: T frames of n atoms.

    Parameters
    ----------
    name : str
        Readable identifier of the molecule.
    numbers : (n,) int
    reference : (n, 3) float64, Å
        Reference geometry; its bonds must persist.
    positions : (T, n, 3) float64, Å
    time : (T,) float64, ps, optional
    energy : (T,) float64, eV, optional
        Total energy, potential plus kinetic.
    temperature : (T,) float64, K, optional
        Temperature relative to the centre of mass.
    periodic : bool
        True for a periodic structure; bonds across cell boundaries are not tracked.
    """

    name: str
    numbers: NDArray[np.int64]
    reference: Floats
    positions: Floats
    time: Floats | None = None
    energy: Floats | None = None
    temperature: Floats | None = None
    periodic: bool = False

    @classmethod
    def of_motion(
        cls,
        name: str,
        atoms: Atoms,
        positions: Floats,
        *,
        time: Floats | None = None,
        energy: Floats | None = None,
        velocities: Floats | None = None,
    ) -> Self:
        """Create a trajectory from recorded data of ``atoms``, the reference geometry whose bonds must persist.

        Parameters
        ----------
        name : str
        atoms : ase.Atoms
        positions : (T, n, 3), Å
        time : (T,), ps, optional
        energy : (T,), eV, optional
            Potential energy.
        velocities : (T, n, 3), in ASE's unit, optional
        """
        total, temperature = None, None
        if velocities is not None:
            masses = atoms.get_masses()
            with np.errstate(invalid="ignore", over="ignore"):
                inside = velocities - np.einsum("i,tij->tj", masses / masses.sum(), velocities)[:, None]
                kinetic, internal = (0.5 * np.einsum("i,tij->t", masses, v * v) for v in (velocities, inside))
            # A single atom has no internal motion.
            temperature = 2.0 * internal / (max(3 * len(atoms) - 3, 1) * units.kB)
            total = None if energy is None else energy + kinetic
        numbers = atoms.numbers.astype(np.int64)
        return cls(name, numbers, atoms.positions, positions, time, total, temperature, bool(atoms.pbc.any()))

    def moment(self, frame: int) -> str:
        """Return the time or the index of a frame as text."""
        return f"in frame {frame}" if self.time is None else f"at {self.time[frame]:.3f} ps"


class Slope(NamedTuple):
    """Slope per unit of time and half width of its 95 % interval; both NaN with too few or non-finite points."""

    value: float
    half_width: float


def slope(time: Floats, values: Floats) -> Slope:
    """Fit the slope of ``values`` (T,) over ``time`` (T,) by linear regression on the means of ``BLOCKS`` blocks.

    Neighbouring frames are correlated, so a regression on all frames would give far too narrow an interval.
    """
    from scipy.special import stdtrit

    size = len(values) // BLOCKS
    if size < FRAMES_PER_BLOCK or not (np.isfinite(values).all() and np.isfinite(time).all()):
        return Slope(np.nan, np.nan)
    # Frames that do not fill a block are dropped at the start.
    x, y = (column[-size * BLOCKS :].reshape(BLOCKS, size).mean(axis=1) for column in (time, values))
    x, y = x - x.mean(), y - y.mean()
    spread = float(x @ x)
    if spread == 0.0:
        return Slope(np.nan, np.nan)
    found = float(x @ y) / spread
    left = y - found * x
    error = np.sqrt(float(left @ left) / (BLOCKS - 2) / spread)
    return Slope(found, float(stdtrit(BLOCKS - 2, (1 + LEVEL) / 2) * error))
