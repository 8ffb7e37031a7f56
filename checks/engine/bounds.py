"""Bounds of the checks: shipped defaults by profile, then overrides from the caller's files.

The code contains the rule, never the number. Only keys that occur in the defaults of a check are known; any other key
is rejected with a suggestion.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from hydrogate.checks.declarations import Section
from hydrogate.checks.errors import BadParams, did_you_mean
from hydrogate.checks.findings import Severity

CONTRACTS = ("input", "structures", "labels", "predictions")
_LIMITS = ("min", "max", "warn_min", "warn_max")
_COMMON = {"enabled": bool, "severity": str, "reason": str, "origin": str}

Override = tuple[str, Mapping[str, Any]]
"""Source of bounds (a file name), and its ``contracts`` section."""


@dataclass(frozen=True)
class Limits:
    """Closed interval. Values inside ``min`` and ``max`` but outside ``warn_min`` and ``warn_max`` give a warning."""

    min: float | None = None
    max: float | None = None
    warn_min: float | None = None
    warn_max: float | None = None

    def __str__(self) -> str:
        return _interval(self.min, self.max)

    def as_warning(self) -> "Limits":
        """Return the narrower interval outside which a warning is given."""
        low = self.min if self.warn_min is None else self.warn_min
        return Limits(low, self.max if self.warn_max is None else self.warn_max)

    @property
    def warns(self) -> bool:
        """True if a warning interval is declared."""
        return self.warn_min is not None or self.warn_max is not None


def _interval(low: float | None, high: float | None) -> str:
    if low is None:
        return "any value" if high is None else f"at most {high:g}"
    return f"at least {low:g}" if high is None else (f"exactly {low:g}" if low == high else f"{low:g} to {high:g}")


@dataclass(frozen=True)
class Bounds:
    """Declared bounds and settings of one check.

    Parameters
    ----------
    limits : mapping of str to Limits
        By quantity; the key "" has the limits of a check with a single quantity.
    settings : mapping
        Other numbers and names that the check needs.
    source : str
        Files that the numbers come from.
    origin : str
        Origin of the shipped number: a measurement, a paper or a choice.
    """

    check: str
    severity: Severity
    enabled: bool
    limits: Mapping[str, Limits]
    settings: Mapping[str, Any]
    reason: str
    source: str
    origin: str = ""


@cache
def _defaults() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(files("hydrogate.checks").joinpath("defaults.yaml").read_text("utf-8"))
    return content


def profile_names() -> list[str]:
    """Return the names of the shipped profiles."""
    return list(_defaults()["profiles"])


class Fit(Section):
    """Properties of the data that a profile may be suggested for."""

    periodic: bool = False
    min_fragments: int = 1
    max_atoms: int | None = None


def fit_of(profile: str) -> Fit:
    """Return the properties of the data that ``profile`` is made for."""
    return Fit.model_validate(_defaults()["profiles"][profile].get("fits", {}))


def resolve_bounds(
    contract: str, *, profile: str | None = None, overrides: Sequence[Override] = ()
) -> tuple[str, dict[str, Bounds]]:
    """Return the profile name and the bounds of each check of ``contract``, in the order of the defaults.

    Raises
    ------
    BadParams
        An unknown contract, profile, check or key, or a value of the wrong type.
    """
    if contract not in CONTRACTS:
        raise BadParams(f"contract {contract!r} is unknown{did_you_mean(contract, CONTRACTS)}")
    chosen = profile or next((o["profile"] for _, o in reversed(overrides) if "profile" in o), "druglike")
    if chosen not in profile_names():
        raise BadParams(f"profile {chosen!r} is unknown{did_you_mean(chosen, profile_names())}")
    base = _defaults()["profiles"]["druglike"][contract]
    blocks = {check: dict(block) for check, block in base.items()}
    sources = {check: ["profile druglike"] for check in blocks}
    shipped: list[Override] = []
    if chosen != "druglike":
        only = {name: section for name, section in _defaults()["profiles"][chosen].items() if name in CONTRACTS}
        shipped = [(f"profile {chosen}", only)]
    for source, override in [*shipped, *overrides]:
        _refuse_unknown(override, [*CONTRACTS, "profile", "waivers"], f"{source}: contracts")
        section = {} if override.get(contract) is None else override[contract]
        _refuse_unknown(section, [*blocks, "enforce"], f"{source}: contracts.{contract}")
        for check, block in section.items():
            if check == "enforce":
                continue
            where = f"{source}: contracts.{contract}.{check}"
            blocks[check] = _merge(blocks[check], block, where)
            sources[check].append(source)
    return chosen, {
        check: _bounds(check, block, ", ".join(sources[check]), contract) for check, block in blocks.items()
    }


def is_enforced(contract: str, overrides: Sequence[Override]) -> bool:
    """Return True if a failure of ``contract`` stops the pipeline.

    With ``enforce: report`` the pipeline continues, and every report carries a warning.

    Raises
    ------
    BadParams
        The value of ``enforce`` is neither ``refuse`` nor ``report``.
    """
    sections = [(source, override.get(contract) or {}) for source, override in overrides]
    declared = [(source, section["enforce"]) for source, section in sections if "enforce" in section]
    source, chosen = declared[-1] if declared else ("", "refuse")
    if chosen not in ("refuse", "report"):
        raise BadParams(f"{source}: contracts.{contract}.enforce: expected refuse or report, got {chosen!r}")
    return bool(chosen == "refuse")


def _refuse_unknown(section: object, known: Sequence[str] | Mapping[str, Any], where: str) -> None:
    if not isinstance(section, Mapping):
        raise BadParams(f"{where}: expected a mapping, got {section!r}")
    for key in section:
        if key not in known:
            raise BadParams(f"{where}: unknown key {key!r}{did_you_mean(key, list(known))}")


def _merge(block: Mapping[str, Any], override: Any, where: str) -> dict[str, Any]:
    _refuse_unknown(override, [*block, *_COMMON, *_LIMITS], where)
    merged = dict(block)
    for key, value in override.items():
        nested = isinstance(merged.get(key), Mapping)
        if nested != isinstance(value, Mapping):
            raise BadParams(f"{where}.{key}: expected {'a mapping' if nested else 'a plain value'}, got {value!r}")
        merged[key] = {**merged[key], **value} if nested else value
    return merged


def _bounds(check: str, block: Mapping[str, Any], source: str, contract: str) -> Bounds:
    where = f"{source}: contracts.{contract}.{check}"
    for key, kind in _COMMON.items():
        if not isinstance(block.get(key, kind()), kind):
            raise BadParams(f"{where}.{key}: expected a {kind.__name__}, got {block[key]!r}")
    severity = block.get("severity", "error")
    if severity not in list(Severity):
        raise BadParams(f"{where}.severity: {severity!r} is unknown{did_you_mean(severity, map(str, Severity))}")
    quantities = {name: value for name, value in block.items() if isinstance(value, Mapping)}
    flat = {name: block[name] for name in _LIMITS if name in block}
    limits = {name: _limits(value, f"{where}.{name}") for name, value in quantities.items()}
    if flat:
        limits[""] = _limits(flat, where)
    if severity == Severity.WARN:  # the check only warns, so the warning interval is its bound
        limits = {name: limit.as_warning() for name, limit in limits.items()}
    settings = {n: v for n, v in block.items() if n not in (*quantities, *flat, *_COMMON)}
    for name, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise BadParams(f"{where}.{name}: expected a finite number, got {value!r}")
    return Bounds(
        check,
        Severity(severity),
        block.get("enabled", True),
        limits,
        settings,
        block.get("reason", ""),
        source,
        block.get("origin", ""),
    )


def _limits(block: Mapping[str, Any], where: str) -> Limits:
    _refuse_unknown(block, _LIMITS, where)
    for name, value in block.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise BadParams(f"{where}.{name}: expected a number, got {value!r}")
        if value is not None and not math.isfinite(value):
            raise BadParams(f"{where}.{name}: expected a finite number, got {value!r}")
    limits = Limits(**block)
    if limits.min is not None and limits.max is not None and limits.min > limits.max:
        raise BadParams(f"{where}: min {limits.min:g} is above max {limits.max:g}")
    return limits
