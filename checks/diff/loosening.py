"""Effect of one changed value of a declaration: the check is loosened or tightened, or the effect is unclear."""

import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

ABSENT = {"enabled": True, "severity": "error", "reason": "", "origin": "", "one_sided": False, "frozen": False}
_LIMITS = ("min", "max", "warn_min", "warn_max")
_LARGER_IS_LOOSER = (
    "max",
    "warn_max",
    "max_perception_failures",
    "min_perceptions",
    "min_carbons_of_bare",
    "min_atoms",
    "standard_errors",
    "tolerance",
)
_SMALLER_IS_LOOSER = (
    "min",
    "warn_min",
    "min_bonds",
    "min_pairs",
    "min_structures_per_rank",
    "min_n",
    "confidence",
    "structures",
    "molecules",
    "atoms",
)
_TRUE_IS_LOOSER = ("may_be_absent", "may_be_alone", "may_be_radical", "too_few_only_warn", "one_sided", "frozen")
_FALSE_IS_LOOSER = ("enabled", "required", "gated")
_WORDS = {
    "enabled": ("check switched off", "check switched on"),
    "severity": ("severity lowered to warn", "severity raised to error"),
    "required": ("gate no longer required", "gate now required"),
    "confidence": ("confidence lowered", "confidence raised"),
    "min_n": ("min_n lowered", "min_n raised"),
    "one_sided": ("gate judged by one interval end", "gate judged by both interval ends"),
    "gated": ("band no longer requires the gates", "band now requires the gates"),
    "frozen": ("stage frozen", "stage unfrozen"),
    "reason": ("reason emptied", "reason given"),
    "origin": ("origin emptied", "origin given"),
}


class Effect(StrEnum):
    """Effect of a change on the checks; ``unclear`` may have loosened them."""

    LOOSER = "looser"
    UNCLEAR = "unclear"
    NOT_LOOSER = "not looser"


@dataclass(frozen=True)
class Change:
    """One change of a declaration.

    Parameters
    ----------
    what : str
        A description: bound loosened, check switched off.
    where : str
        The dotted key in ``params.yaml``; the shipped default is used if ``params.yaml`` does not have it.
    before, after : str
        The values; empty if there is none.
    reason : str
        The reason now declared with it.
    """

    effect: Effect
    what: str
    where: str
    before: str = ""
    after: str = ""
    reason: str = ""


def effect_of(key: str, old: Any, new: Any) -> tuple[Effect, str]:
    """Return the effect of one changed value and its description."""
    looser = _looser(key, old, new)
    if key in ("reason", "origin") and looser is None:
        return Effect.NOT_LOOSER, f"{key} reworded"
    if key in ("command", "status", "advice"):
        return Effect.NOT_LOOSER, f"{key} changed"
    noun = "bound" if key in _LIMITS else "setting"
    if looser is None:
        return Effect.UNCLEAR, f"{noun} changed"
    words = _WORDS.get(key, (f"{noun} loosened", f"{noun} tightened"))
    return (Effect.LOOSER, words[0]) if looser else (Effect.NOT_LOOSER, words[1])


def _looser(key: str, old: Any, new: Any) -> bool | None:
    """Return True if ``new`` is looser, False if it is stricter, None if the direction is unknown."""
    if key in _LIMITS and None in (old, new):
        return new is None  # no bound at all
    if key in ("reason", "origin"):
        blank = [not str(value or "").strip() for value in (old, new)]
        return None if blank[0] == blank[1] else blank[1]
    if key == "severity":
        return {("error", "warn"): True, ("warn", "error"): False}.get((old, new))
    if isinstance(old, bool) and isinstance(new, bool):
        known = key in _TRUE_IS_LOOSER or key in _FALSE_IS_LOOSER
        return new == (key in _TRUE_IS_LOOSER) if known else None
    if not _number(old) or not _number(new):
        return None
    if key in _LARGER_IS_LOOSER:
        return bool(new > old)
    return bool(new < old) if key in _SMALLER_IS_LOOSER else None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def text_of(value: Any) -> str:
    """Return the value in one line: a string unchanged, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
