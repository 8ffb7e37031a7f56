"""How dynamics are run, what is recorded of a molecule, and how its energy drifts."""

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

# Blocks of a trajectory whose means are taken for independent: long against the slowest vibration of a molecule, and
# enough of them for a standard error with eight degrees of freedom.
BLOCKS = 10
FRAMES_PER_BLOCK = 2
MOST_STEPS = 10**8  # of one molecule: days


class StabilityLimits(Section):
    """What a molecule may do in ``nve_ps`` ps of dynamics at constant energy; a shorter run shows no stability.

    Parameters
    ----------
    hydrogen_distance : float, Å
        Of a hydrogen from the atom that it is bonded to.
    bond_change : float, Å
        Of any bond's length, either way.
    drift : float, meV/atom/ps
        Slope of the total energy, either way.
    exploded_bond, exploded_temperature : float
        Times a bond's length, and times the temperature, beyond which nothing is left to judge.
    """

    nve_ps: Positive = 10.0
    hydrogen_distance: Positive = 2.5
    bond_change: Positive = 0.5
    drift: Positive = 0.5
    exploded_bond: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 2.0
    exploded_temperature: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 10.0


class MdProtocol(Section):
    """How the dynamics of `StabilityLimits` are run: relaxed, warmed up by Langevin dynamics, then left to itself.

    Parameters
    ----------
    count : int
        Molecules, drawn at random.
    temperature : float, K
    time_step_fs, warm_up_ps, nve_ps : float
    friction : float, 1/fs
        Of the warm-up.
    relax_fmax : float, eV/Å
    relax_steps : int
        A molecule that is not relaxed by then goes on as it is.
    interval : int
        Steps from one recorded frame to the next.
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
                f"warm_up_ps and nve_ps take {steps:g} steps of {self.time_step_fs:g} fs, at most {MOST_STEPS:g}"
            )
        return self

    @property
    def steps(self) -> tuple[int, int, int]:
        """Of the relaxation at most, of the warm-up, and at constant energy at least one."""
        warm_up, nve = (round(ps * 1000.0 / self.time_step_fs) for ps in (self.warm_up_ps, self.nve_ps))
        return self.relax_steps, warm_up, max(1, nve)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """T frames of one molecule of n atoms.

    Parameters
    ----------
    name : str
        How a person finds it.
    numbers : (n,) int
    reference : (n, 3) float64, Å
        The geometry whose bonds must last.
    positions : (T, n, 3) float64, Å
    time : (T,) float64, ps, optional
    energy : (T,) float64, eV, optional
        Potential and kinetic.
    temperature : (T,) float64, K, optional
        About the centre of mass.
    periodic : bool
        Bonds are not followed across the faces of a cell.
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
        """What was recorded of ``atoms``, whose bonds must last.

        Parameters
        ----------
        name : str
        atoms : ase.Atoms
        positions : (T, n, 3), Å
        time : (T,), ps, optional
        energy : (T,), eV, optional
            Potential.
        velocities : (T, n, 3), ASE's unit, optional
        """
        total, temperature = None, None
        if velocities is not None:
            masses = atoms.get_masses()
            with np.errstate(invalid="ignore", over="ignore"):
                inside = velocities - np.einsum("i,tij->tj", masses / masses.sum(), velocities)[:, None]
                kinetic, internal = (0.5 * np.einsum("i,tij->t", masses, v * v) for v in (velocities, inside))
            # Of a single atom nothing moves but the whole.
            temperature = 2.0 * internal / (max(3 * len(atoms) - 3, 1) * units.kB)
            total = None if energy is None else energy + kinetic
        numbers = atoms.numbers.astype(np.int64)
        return cls(name, numbers, atoms.positions, positions, time, total, temperature, bool(atoms.pbc.any()))

    def moment(self, frame: int) -> str:
        """When a frame was, in words."""
        return f"in frame {frame}" if self.time is None else f"at {self.time[frame]:.3f} ps"


class Slope(NamedTuple):
    """Per unit of time, with half of its 95 % interval; both NaN where too few points or one that is not finite."""

    value: float
    half_width: float


def slope(time: Floats, values: Floats) -> Slope:
    """The slope of ``values`` (T,) over ``time`` (T,), by linear regression of the means of ``BLOCKS`` blocks.

    Neighbouring frames know of each other, so that a regression of all of them claims far too narrow an interval.
    """
    from scipy.special import stdtrit

    size = len(values) // BLOCKS
    if size < FRAMES_PER_BLOCK or not (np.isfinite(values).all() and np.isfinite(time).all()):
        return Slope(np.nan, np.nan)
    # What does not fill a block is left out at the start.
    x, y = (column[-size * BLOCKS :].reshape(BLOCKS, size).mean(axis=1) for column in (time, values))
    x, y = x - x.mean(), y - y.mean()
    spread = float(x @ x)
    if spread == 0.0:
        return Slope(np.nan, np.nan)
    found = float(x @ y) / spread
    left = y - found * x
    error = np.sqrt(float(left @ left) / (BLOCKS - 2) / spread)
    return Slope(found, float(stdtrit(BLOCKS - 2, (1 + LEVEL) / 2) * error))
