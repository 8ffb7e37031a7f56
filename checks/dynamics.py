"""Whether molecules survive their dynamics: recorded trajectories in, findings and metrics out.

A molecule is stable where nothing exploded, no bond changed, no hydrogen left its partner, the total energy does not
drift, and the run was long enough to say so. What a trajectory lacks (velocities, energies, times) is ``not_run``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple, Self

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray
from pydantic import Field

from hydrogate.checks.bootstrap import LEVEL, Floats, Metric, OfSums, bootstrap, point
from hydrogate.checks.dataset import concatenate
from hydrogate.checks.declared import Section
from hydrogate.checks.findings import Finding, Severity, Verdict
from hydrogate.checks.pairs import bonds, geometry

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

# Blocks of a trajectory whose means are taken for independent: long against the slowest vibration of a molecule, and
# enough of them for a standard error with eight degrees of freedom.
BLOCKS = 10
FRAMES_PER_BLOCK = 2
_EXAMPLES = 5


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
    interval: Annotated[int, Field(gt=0)] = 10
    seed: Annotated[int, Field(ge=0)] = 0
    limits: StabilityLimits = StabilityLimits()


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


class Said(NamedTuple):
    """What one check says of one molecule: the verdict, the figure that is judged, and it in words."""

    verdict: Verdict
    value: float
    message: str


@dataclass(frozen=True, eq=False)
class Judged:
    """One molecule.

    Parameters
    ----------
    said : mapping of str to Said
        By check, in the order of ``CHECKS``.
    drift : Slope
        meV/atom/ps; NaN where unknown.
    temperature : float, K
        Mean over the frames; NaN where unknown.
    broken : int
        Bonds that changed too much, or whose hydrogen left.
    """

    name: str
    said: Mapping[str, Said]
    drift: Slope
    temperature: float
    broken: int

    @property
    def verdict(self) -> Verdict:
        """``pass`` where the molecule is stable: where all checks are."""
        found = {said.verdict for said in self.said.values()}
        order = (Verdict.FAIL, Verdict.NOT_RUN, Verdict.UNDECIDED)
        return next((verdict for verdict in order if verdict in found), Verdict.PASS)


class _Bonds(NamedTuple):
    """Lengths (T, B) in Å, those of the reference (B,), names, and whether each is that of a hydrogen."""

    lengths: Floats
    before: Floats
    names: list[str]
    hydrogen: NDArray[np.bool_]
    alone: int


def _bonds(of: Trajectory) -> _Bonds:
    """The bonds that distances show in the reference, and each hydrogen's to its nearest atom, however far."""
    atoms = Atoms(of.numbers, of.reference)
    data = concatenate([atoms])
    near, shape = bonds(data), geometry(data)
    held = shape.partner != shape.hydrogen
    pairs = {tuple(sorted(pair)) for pair in zip(near.first.tolist(), near.second.tolist(), strict=True)}
    pairs |= {tuple(sorted(p)) for p in zip(shape.hydrogen[held].tolist(), shape.partner[held].tolist(), strict=True)}
    ends = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.linalg.norm(of.positions[:, ends[:, 0]] - of.positions[:, ends[:, 1]], axis=-1)
    before = np.linalg.norm(of.reference[ends[:, 0]] - of.reference[ends[:, 1]], axis=-1)
    names = [f"{atoms.symbols[i]}{i}-{atoms.symbols[j]}{j}" for i, j in ends.tolist()]
    hydrogen = (of.numbers[ends] == 1).any(axis=1)
    bonded = np.unique(np.concatenate([near.first, near.second]))
    return _Bonds(lengths, before, names, hydrogen, len(of.numbers) - len(bonded) if len(of.numbers) > 1 else 0)


def judge(of: Trajectory, temperature: float, limits: StabilityLimits) -> Judged:
    """What each check says of one molecule.

    Parameters
    ----------
    of : Trajectory
    temperature : float, K
        That the run was made at.
    limits : StabilityLimits
    """
    bonded = None if of.periodic else _bonds(of)
    mean = np.nan if of.temperature is None else float(of.temperature.mean())
    drift = Slope(np.nan, np.nan)
    if of.energy is not None and of.time is not None:
        drift = slope(of.time, 1e3 * of.energy / len(of.numbers))
    said = {
        "exploded": _exploded(of, bonded, temperature, limits),
        "bonds_kept": _bonds_kept(of, bonded, limits),
        "hydrogens_kept": _hydrogens_kept(of, bonded, limits),
        "energy_drift": _energy_drift(of, drift, limits),
        "duration": _duration(of, limits),
    }
    return Judged(of.name, said, drift, mean, 0 if bonded is None else int(_broken(bonded, limits).any(axis=0).sum()))


def _broken(bonded: _Bonds, limits: StabilityLimits) -> NDArray[np.bool_]:
    """(T, B); a length that is not finite is broken."""
    kept: NDArray[np.bool_] = np.abs(bonded.lengths - bonded.before) <= limits.bond_change
    return ~(kept & (~bonded.hydrogen | (bonded.lengths <= limits.hydrogen_distance)))


def _exploded(of: Trajectory, bonded: _Bonds | None, temperature: float, limits: StabilityLimits) -> Said:
    """Not finite, a bond of twice its length, or ten times the temperature: which comes first, and when."""
    signs: list[tuple[int, float, str]] = []

    def look(good: NDArray[np.bool_], tell: Callable[[int], tuple[float, str]]) -> None:
        """``good`` (T, …), by frame; the first that is not."""
        bad = np.flatnonzero(~good.reshape(len(good), -1).all(axis=1))
        if len(bad):
            frame = int(bad[0])
            signs.append((frame, *tell(frame)))

    look(np.isfinite(of.positions), lambda frame: (np.nan, "a position is not finite"))
    if bonded is not None:
        ratio = bonded.lengths / bonded.before

        def longest(frame: int) -> tuple[float, str]:
            bond = int(ratio[frame].argmax())
            lengths = f"{bonded.lengths[frame, bond]:.2f} Å, {bonded.before[bond]:.2f} Å before"
            return float(ratio[frame, bond]), f"bond {bonded.names[bond]} of {lengths}"

        look(~(ratio > limits.exploded_bond), longest)
    if of.temperature is not None:
        kelvin = of.temperature

        def hottest(frame: int) -> tuple[float, str]:
            return float(kelvin[frame] / temperature), f"{kelvin[frame]:.0f} K, {temperature:g} K intended"

        look(kelvin <= limits.exploded_temperature * temperature, hottest)
    for name, values in (("energy", of.energy), ("temperature", of.temperature)):
        if values is not None:
            look(np.isfinite(values), lambda frame, name=name: (np.nan, f"its {name} is not finite"))  # type: ignore[misc]
    if signs:
        frame, value, what = min(signs, key=lambda sign: sign[0])
        return Said(Verdict.FAIL, value, f"exploded {of.moment(frame)}: {what}")
    largest = float(ratio.max()) if bonded is not None and bonded.lengths.size else np.nan
    lacks = [what for what, absent in (("velocities", of.temperature is None), ("bonds", bonded is None)) if absent]
    if lacks:
        return Said(Verdict.NOT_RUN, largest, f"shows no explosion, and has no {' and no '.join(lacks)} to judge it by")
    return Said(Verdict.PASS, largest, "did not explode")


def _bonds_kept(of: Trajectory, bonded: _Bonds | None, limits: StabilityLimits) -> Said:
    if bonded is None:
        return Said(Verdict.NOT_RUN, np.nan, "is periodic, and bonds across a cell's faces are not followed")
    change = np.abs(bonded.lengths - bonded.before)
    bad = ~(change <= limits.bond_change)
    worst = float(change.max()) if change.size else 0.0
    if bad.any():
        frame = int(bad.any(axis=1).argmax())
        bond = int(np.where(bad[frame], change[frame], -1.0).argmax())
        lengths = f"{bonded.before[bond]:.2f} to {bonded.lengths[frame, bond]:.2f} Å"
        return Said(
            Verdict.FAIL,
            worst,
            f"{int(bad.any(axis=0).sum())} of {len(bonded.names)} bonds change by more than {limits.bond_change:g} Å, "
            f"first {bonded.names[bond]} {of.moment(frame)}: {lengths}",
        )
    if bonded.alone:
        return Said(Verdict.UNDECIDED, worst, f"{bonded.alone} atoms have no bond to begin with")
    return Said(Verdict.PASS, worst, f"no bond changes by more than {worst:.2f} Å")


def _hydrogens_kept(of: Trajectory, bonded: _Bonds | None, limits: StabilityLimits) -> Said:
    if bonded is None:
        return Said(Verdict.NOT_RUN, np.nan, "is periodic, and bonds across a cell's faces are not followed")
    lengths = bonded.lengths[:, bonded.hydrogen]
    names = [name for name, of_hydrogen in zip(bonded.names, bonded.hydrogen.tolist(), strict=True) if of_hydrogen]
    bad = ~(lengths <= limits.hydrogen_distance)
    worst = float(lengths.max()) if lengths.size else 0.0
    if bad.any():
        frame = int(bad.any(axis=1).argmax())
        bond = int(bad[frame].argmax())
        return Said(
            Verdict.FAIL,
            worst,
            f"hydrogens leave, {int(bad.any(axis=0).sum())} of {len(names)}, first {names[bond]} {of.moment(frame)}: "
            f"{lengths[frame, bond]:.2f} Å",
        )
    return Said(Verdict.PASS, worst, f"no hydrogen goes beyond {worst:.2f} Å")


def _energy_drift(of: Trajectory, drift: Slope, limits: StabilityLimits) -> Said:
    lacks = [what for what, values in (("times", of.time), ("total energies", of.energy)) if values is None]
    if lacks:
        return Said(Verdict.NOT_RUN, np.nan, f"has no {' and no '.join(lacks)}")
    if not np.isfinite(drift.half_width):
        least = BLOCKS * FRAMES_PER_BLOCK
        return Said(
            Verdict.UNDECIDED, np.nan, f"drift undefined: {len(of.positions)} frames, {least} finite ones needed"
        )
    size = abs(drift.value)
    message = f"drifts by {drift.value:.3g} ± {drift.half_width:.2g} meV/atom/ps"
    if size + drift.half_width <= limits.drift:
        return Said(Verdict.PASS, size, message)
    verdict = Verdict.FAIL if size - drift.half_width > limits.drift else Verdict.UNDECIDED
    return Said(verdict, size, message)


def _duration(of: Trajectory, limits: StabilityLimits) -> Said:
    if of.time is None:
        return Said(Verdict.NOT_RUN, np.nan, "does not say how long it is")
    length = float(of.time[-1] - of.time[0]) if len(of.time) else 0.0
    enough = length >= limits.nve_ps * (1 - 1e-6)
    return Said(Verdict.PASS if enough else Verdict.UNDECIDED, length, f"is {length:.3g} ps long")


class _Check(NamedTuple):
    unit: str
    allowed: Callable[[StabilityLimits], str]
    worst: Callable[[Floats], float]
    remedy: str
    severity: Severity = Severity.ERROR


_MORE_DATA = "Look at the data first: hydrogens, distorted geometries, wrong labels; then train longer or on more."
CHECKS = {
    "exploded": _Check("times", lambda limits: f"<= {limits.exploded_bond:g}", np.max, _MORE_DATA),
    "bonds_kept": _Check("Å", lambda limits: f"<= {limits.bond_change:g}", np.max, _MORE_DATA),
    "hydrogens_kept": _Check("Å", lambda limits: f"<= {limits.hydrogen_distance:g}", np.max, _MORE_DATA),
    "energy_drift": _Check(
        "meV/atom/ps",
        lambda limits: f"<= {limits.drift:g}",
        np.max,
        "Forces that are not the energy's gradient, a step at the cutoff, or too long a time step make energy drift.",
    ),
    # A shorter run finds what breaks; that it says nothing of the rest is told by md_stability.
    "duration": _Check("ps", lambda limits: f">= {limits.nve_ps:g}", np.min, "", Severity.WARN),
}


def findings(judged: Sequence[Judged], limits: StabilityLimits) -> tuple[Finding, ...]:
    """One finding a check over all molecules: ``pass`` where each passes."""
    return tuple(_finding(name, check, judged, limits) for name, check in CHECKS.items())


def _finding(name: str, check: _Check, judged: Sequence[Judged], limits: StabilityLimits) -> Finding:
    order = (Verdict.FAIL, Verdict.NOT_RUN, Verdict.UNDECIDED, Verdict.PASS)
    rows = sorted(((one.said[name], one.name) for one in judged), key=lambda row: order.index(row[0].verdict))
    verdict = rows[0][0].verdict if rows else Verdict.NOT_RUN
    same = [f"{whose} {said.message}" for said, whose in rows if said.verdict is verdict]
    values = np.array([said.value for said, _ in rows], dtype=np.float64)
    finite = values[np.isfinite(values)]
    count = f"{len(same)} of {len(rows)} molecules; " if len(rows) > 1 else ""
    return Finding(
        contract="dynamics",
        check=name,
        verdict=verdict,
        severity=check.severity,
        message=f"{count}{same[0] if same else 'no molecule'}",
        remedy=check.remedy,
        n=len(rows),
        n_bad=sum(said.verdict is Verdict.FAIL for said, _ in rows),
        unit=check.unit,
        observed={"worst": float(check.worst(finite))} if len(finite) else {},
        allowed={"worst": check.allowed(limits)},
        examples=tuple(same[:_EXAMPLES]) if verdict is not Verdict.PASS else (),
    )


def metrics(judged: Sequence[Judged], *, resamples: int = 2000, seed: int = 0) -> dict[str, Metric]:
    """``md_stability``, ``md_drift``, ``md_temperature`` and ``md_broken_bonds``, n counting molecules.

    ``md_stability`` is the share of molecules shown to be stable. Where some are undecided and none is known to break,
    as in a run too short to show stability, it is undefined, and n counts those that were shown to be.
    """
    verdicts = [one.verdict for one in judged]
    stable = verdicts.count(Verdict.PASS)
    told = Verdict.FAIL in verdicts or stable == len(judged) > 0
    means = {
        "md_drift": ([abs(one.drift.value) for one in judged], "meV/atom/ps"),
        "md_temperature": ([one.temperature for one in judged], "K"),
    }
    count = np.ones(len(judged))
    statistics = {
        name: (OfSums(np.column_stack([values, count]), np.divide, len(judged)), unit)
        for name, (values, unit) in means.items()
    }
    return {
        "md_stability": point(stable / len(judged), "", len(judged)) if told else Metric(None, "", stable),
        **bootstrap(statistics, len(judged), resamples=resamples, seed=seed),
        "md_broken_bonds": point(float(sum(one.broken for one in judged)), "bonds", len(judged)),
    }
