"""Stability of molecules in MD: findings and metrics from recorded trajectories.

A molecule is stable if it did not explode, no bond changed, no hydrogen left its partner, the total energy does not
drift, and the run was long enough. Checks that need data missing from a trajectory (velocities, energies, times) are
``not_run``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from hydrogate.checks.data.dataset import concatenate
from hydrogate.checks.findings import Finding, Severity, Verdict
from hydrogate.checks.geometry.distances import bonds, geometry
from hydrogate.checks.metrics.bootstrap import Floats, Metric, OfSums, bootstrap, point
from hydrogate.checks.metrics.md_record import BLOCKS, FRAMES_PER_BLOCK, Slope, StabilityLimits, Trajectory, slope

_EXAMPLES = 5


class Said(NamedTuple):
    """Result of one check for one molecule: the verdict, the value that was checked, and a message."""

    verdict: Verdict
    value: float
    message: str


@dataclass(frozen=True, eq=False)
class Judged:
    """Results of all checks for one molecule.

    Parameters
    ----------
    said : mapping of str to Said
        Result of each check, in the order of ``CHECKS``.
    drift : Slope
        Drift of the total energy, meV/atom/ps; NaN if unknown.
    temperature : float, K
        Mean over the frames; NaN if unknown.
    broken : int
        Number of bonds that changed too much, or whose hydrogen left.
    """

    name: str
    said: Mapping[str, Said]
    drift: Slope
    temperature: float
    broken: int

    @property
    def verdict(self) -> Verdict:
        """Verdict for the molecule: ``pass`` if it is stable, that is, if all checks pass."""
        found = {said.verdict for said in self.said.values()}
        order = (Verdict.FAIL, Verdict.NOT_RUN, Verdict.UNDECIDED)
        return next((verdict for verdict in order if verdict in found), Verdict.PASS)


class _Bonds(NamedTuple):
    """Bond lengths (T, B) in Å, reference lengths (B,), names, mask of X-H bonds (B,), number of unbonded atoms."""

    lengths: Floats
    before: Floats
    names: list[str]
    hydrogen: NDArray[np.bool_]
    alone: int


def _bonds(of: Trajectory) -> _Bonds:
    """Find the bonds of the reference by distance; bond each hydrogen to its nearest atom, however far."""
    atoms = Atoms(of.numbers, of.reference)
    data = concatenate([atoms])
    near, shape = bonds(data), geometry(data)
    held = shape.partner != shape.hydrogen
    pairs = {tuple(sorted(pair)) for pair in zip(near.first.tolist(), near.second.tolist(), strict=True)}
    pairs |= {tuple(sorted(p)) for p in zip(shape.hydrogen[held].tolist(), shape.partner[held].tolist(), strict=True)}
    ends = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    lengths = np.linalg.norm(of.positions[:, ends[:, 0]] - of.positions[:, ends[:, 1]], axis=-1)
    before = np.linalg.norm(of.reference[ends[:, 0]] - of.reference[ends[:, 1]], axis=-1)
    names = [f"{atoms.symbols[i]}{i}-{atoms.symbols[j]}{j}" for i, j in ends.tolist()]
    hydrogen = (of.numbers[ends] == 1).any(axis=1)
    bonded = np.unique(np.concatenate([near.first, near.second]))
    return _Bonds(lengths, before, names, hydrogen, len(of.numbers) - len(bonded) if len(of.numbers) > 1 else 0)


# An exploded trajectory overflows to non-finite values, which is how it is detected.
@np.errstate(invalid="ignore", over="ignore", divide="ignore")
def judge(of: Trajectory, temperature: float, limits: StabilityLimits) -> Judged:
    """Run all checks on one molecule.

    Parameters
    ----------
    of : Trajectory
    temperature : float, K
        Set temperature of the run.
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
    """Return a mask of broken bonds, (T, B); a bond with a non-finite length counts as broken."""
    kept: NDArray[np.bool_] = np.abs(bonded.lengths - bonded.before) <= limits.bond_change
    return ~(kept & (~bonded.hydrogen | (bonded.lengths <= limits.hydrogen_distance)))


def _exploded(of: Trajectory, bonded: _Bonds | None, temperature: float, limits: StabilityLimits) -> Said:
    """Find the first sign of explosion: a non-finite value, a bond of twice its length, ten times the temperature."""
    signs: list[tuple[int, float, str]] = []

    def look(good: NDArray[np.bool_], tell: Callable[[int], tuple[float, str]]) -> None:
        """Record the first frame in which ``good`` (T, …) is not true everywhere."""
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
        return Said(Verdict.NOT_RUN, largest, f"shows no explosion, but has no {' and no '.join(lacks)} to check")
    return Said(Verdict.PASS, largest, "did not explode")


def _bonds_kept(of: Trajectory, bonded: _Bonds | None, limits: StabilityLimits) -> Said:
    if bonded is None:
        return Said(Verdict.NOT_RUN, np.nan, "is periodic; bonds across cell boundaries are not tracked")
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
        return Said(Verdict.UNDECIDED, worst, f"{bonded.alone} atoms have no bond in the reference geometry")
    return Said(Verdict.PASS, worst, f"no bond changes by more than {worst:.2f} Å")


def _hydrogens_kept(of: Trajectory, bonded: _Bonds | None, limits: StabilityLimits) -> Said:
    if bonded is None:
        return Said(Verdict.NOT_RUN, np.nan, "is periodic; bonds across cell boundaries are not tracked")
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
            f"{int(bad.any(axis=0).sum())} of {len(names)} hydrogens leave, first {names[bond]} {of.moment(frame)}: "
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
        return Said(Verdict.NOT_RUN, np.nan, "has no times")
    length = float(of.time[-1] - of.time[0]) if len(of.time) else 0.0
    enough = length >= limits.nve_ps * (1 - 1e-6)
    return Said(Verdict.PASS if enough else Verdict.UNDECIDED, length, f"is {length:.3g} ps long")


class _Check(NamedTuple):
    unit: str
    allowed: Callable[[StabilityLimits], str]
    worst: Callable[[Floats], float]
    remedy: str
    severity: Severity = Severity.ERROR


_MORE_DATA = "Check the data first: hydrogens, distorted geometries, wrong labels. Then train longer or on more data."
CHECKS = {
    "exploded": _Check("times", lambda limits: f"<= {limits.exploded_bond:g}", np.max, _MORE_DATA),
    "bonds_kept": _Check("Å", lambda limits: f"<= {limits.bond_change:g}", np.max, _MORE_DATA),
    "hydrogens_kept": _Check("Å", lambda limits: f"<= {limits.hydrogen_distance:g}", np.max, _MORE_DATA),
    "energy_drift": _Check(
        "meV/atom/ps",
        lambda limits: f"<= {limits.drift:g}",
        np.max,
        "Typical causes: forces that are not the negative gradient of the energy, a step at the cutoff, "
        "too long a time step.",
    ),
    # A shorter run still finds breaking molecules; md_stability is undefined if it cannot show stability.
    "duration": _Check("ps", lambda limits: f">= {limits.nve_ps:g}", np.min, "", Severity.WARN),
}


def findings(judged: Sequence[Judged], limits: StabilityLimits) -> tuple[Finding, ...]:
    """Combine the results into one finding per check; ``pass`` if every molecule passes."""
    return tuple(_finding(name, check, judged, limits) for name, check in CHECKS.items())


def _finding(name: str, check: _Check, judged: Sequence[Judged], limits: StabilityLimits) -> Finding:
    order = (Verdict.FAIL, Verdict.NOT_RUN, Verdict.UNDECIDED, Verdict.PASS)
    worse = 1.0 if check.worst is np.min else -1.0

    def worst_first(row: tuple[Said, str]) -> tuple[int, float]:
        said = row[0]
        return order.index(said.verdict), worse * said.value if np.isfinite(said.value) else -np.inf

    rows = sorted(((one.said[name], one.name) for one in judged), key=worst_first)
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
        message=f"{count}{same[0] if same else 'no molecules'}{'.' * (verdict is Verdict.FAIL)}",
        remedy=check.remedy,
        n=len(rows),
        n_bad=sum(said.verdict is Verdict.FAIL for said, _ in rows),
        unit=check.unit,
        observed={"worst": float(check.worst(finite))} if len(finite) else {},
        allowed={"worst": check.allowed(limits)},
        examples=tuple(same[:_EXAMPLES]) if verdict is not Verdict.PASS else (),
    )


def metrics(judged: Sequence[Judged], *, resamples: int = 2000, seed: int = 0) -> dict[str, Metric]:
    """Compute ``md_stability``, ``md_drift``, ``md_temperature`` and ``md_broken_bonds``; n counts molecules.

    ``md_stability`` is the fraction of molecules shown to be stable. It is undefined if some molecules are undecided
    and none fails, as in a run too short to show stability.
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
        "md_stability": point(stable / len(judged), "", len(judged)) if told else Metric(None, "", len(judged)),
        **bootstrap(statistics, len(judged), resamples=resamples, seed=seed),
        "md_broken_bonds": point(float(sum(one.broken for one in judged)), "bonds", len(judged)),
    }
