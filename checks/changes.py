"""What a branch changed in the declarations, told by its effect: a bound that lets more through stands out.

Bounds are compared as they resolve, shipped defaults first and ``params.yaml`` over them, so that a looser default and
a stricter override taken out are seen too. The comparison is lenient: a declaration that a reader would refuse is
compared all the same, since the report on a broken branch must still say what the branch loosened.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from typing import Any, NamedTuple

from hydrogate.checks.bounds import CONTRACTS

WAIVERS_NAMED = 20
_DEFAULT_PROFILE = "druglike"
_ABSENT = {"enabled": True, "severity": "error", "reason": "", "origin": "", "one_sided": False, "frozen": False}
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
    "one_sided": ("gate judged by one end alone", "gate judged by both ends"),
    "gated": ("band decides without the gates", "band asks the gates"),
    "frozen": ("stage frozen", "stage thawed"),
    "reason": ("reason emptied", "reason given"),
    "origin": ("origin emptied", "origin given"),
}


class Effect(StrEnum):
    """What a change does to the protection; ``unclear`` may have loosened it."""

    LOOSER = "looser"
    UNCLEAR = "unclear"
    NOT_LOOSER = "not looser"


@dataclass(frozen=True)
class Change:
    """One change of a declaration.

    Parameters
    ----------
    what : str
        In words: bound loosened, check switched off.
    where : str
        The key in ``params.yaml``, dotted; the shipped default counts where ``params.yaml`` does not have it.
    before, after : str
        Empty where there is none.
    reason : str
        The reason declared beside it now.
    """

    effect: Effect
    what: str
    where: str
    before: str = ""
    after: str = ""
    reason: str = ""


class Declaration(NamedTuple):
    """All that is declared at one revision: ``checks/defaults.yaml``, ``params.yaml`` and ``dvc.yaml`` as read."""

    defaults: Mapping[str, Any]
    params: Mapping[str, Any]
    pipeline: Mapping[str, Any]


def compare_declarations(before: Declaration, after: Declaration) -> tuple[Change, ...]:
    """Every change of contracts, waivers, gates, milestones, measurement and stages; the loosening ones first.

    Parameters
    ----------
    before, after : Declaration
        Of the base and of the branch.
    """
    found = [
        *_of_contracts(before, after),
        *_of_waivers(before.params, after.params),
        *_of_gates(_mapping(before.params, "gates"), _mapping(after.params, "gates")),
        *_of_milestones(before.params.get("milestones"), after.params.get("milestones")),
        *_of_measurement(before.params, after.params),
        *_of_stages(_mapping(before.pipeline, "stages"), _mapping(after.pipeline, "stages")),
    ]
    order = list(Effect)
    return tuple(sorted(found, key=lambda change: order.index(change.effect)))


def _of_contracts(before: Declaration, after: Declaration) -> Iterator[Change]:
    profiles = [_mapping(one.params, "contracts").get("profile") or _DEFAULT_PROFILE for one in (before, after)]
    if profiles[0] != profiles[1]:
        yield Change(Effect.UNCLEAR, "profile changed", "contracts.profile", *map(_text, profiles))
    was, now = _resolved(before), _resolved(after)
    for contract in CONTRACTS:
        for check in _keys(_mapping(was, contract), _mapping(now, contract)):
            old, new = (_mapping(_mapping(side, contract), check) for side in (was, now))
            yield from _of_block(old, new, f"contracts.{contract}.{check}", "check")


def _resolved(declaration: Declaration) -> Mapping[str, Any]:
    profiles, section = _mapping(declaration.defaults, "profiles"), _mapping(declaration.params, "contracts")
    chosen = str(section.get("profile") or _DEFAULT_PROFILE)
    merged = _merged(_mapping(profiles, _DEFAULT_PROFILE), _mapping(profiles, chosen))
    return _merged(merged, {name: section[name] for name in CONTRACTS if isinstance(section.get(name), Mapping)})


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _of_block(old: Mapping[str, Any], new: Mapping[str, Any], where: str, noun: str) -> Iterator[Change]:
    """One check or gate that came, went, or changed in its keys."""
    if not new or not old:
        gone = Effect.NOT_LOOSER if new else Effect.LOOSER
        yield Change(gone, f"{noun} {'added' if new else 'removed'}", where, reason=_text(new.get("reason", "")))
        return
    flat_old, flat_new = dict(_leaves(old)), dict(_leaves(new))
    for path in _keys(flat_old, flat_new):
        default = _ABSENT.get(path[-1])
        one, two = flat_old.get(path, default), flat_new.get(path, default)
        if one != two or (type(one) is not type(two) and bool in (type(one), type(two))):
            effect, what = _effect(path[-1], one, two)
            key = ".".join((where, *path))
            yield Change(effect, what, key, _text(one), _text(two), _text(new.get("reason", "")))


def _leaves(block: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in block.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


def _effect(key: str, old: Any, new: Any) -> tuple[Effect, str]:
    """The effect of one value changed, and what to call it."""
    looser = _looser(key, old, new)
    if key in ("reason", "origin") and looser is None:
        return Effect.NOT_LOOSER, f"{key} reworded"
    if key == "command":
        return Effect.NOT_LOOSER, "command changed"
    noun = "bound" if key in _LIMITS else "setting"
    if looser is None:
        return Effect.UNCLEAR, f"{noun} changed"
    words = _WORDS.get(key, (f"{noun} loosened", f"{noun} tightened"))
    return (Effect.LOOSER, words[0]) if looser else (Effect.NOT_LOOSER, words[1])


def _looser(key: str, old: Any, new: Any) -> bool | None:
    """Whether ``new`` lets more through; None where that cannot be told."""
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


def _of_waivers(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    was, now = (_list(_mapping(side, "contracts").get("waivers")) for side in (old, new))
    known, kept = Counter(map(_text, was)), Counter(map(_text, now))
    added = []
    for index, waiver in enumerate(now):
        if known[_text(waiver)]:
            known[_text(waiver)] -= 1
        else:
            added.append((index, waiver))
    for index, waiver in added[:WAIVERS_NAMED]:
        yield Change(Effect.LOOSER, "waiver added", f"contracts.waivers[{index}]", after=_waiver(waiver))
    if rest := added[WAIVERS_NAMED:]:
        counts = Counter(_waived(waiver) for _, waiver in rest)
        told = ", ".join(f"{name}: {count}" for name, count in counts.most_common(WAIVERS_NAMED))
        yield Change(Effect.LOOSER, f"{len(rest)} further waivers added", "contracts.waivers", after=told)
    for waiver in was:
        if not kept[_text(waiver)]:
            yield Change(Effect.NOT_LOOSER, "waiver removed", "contracts.waivers", before=_waiver(waiver))


def _waived(waiver: Any) -> str:
    return f"{waiver.get('contract')}.{waiver.get('check')}" if isinstance(waiver, Mapping) else _text(waiver)


def _waiver(waiver: Any) -> str:
    if not isinstance(waiver, Mapping):
        return _text(waiver)
    what = ", ".join(_text(waiver[key]) for key in ("pattern", "fingerprint", "structures") if waiver.get(key))
    signed = f"{waiver.get('author', 'nobody')} until {waiver.get('expires', 'for ever')}"
    return f"{_waived(waiver)}, {signed}: {waiver.get('reason', 'no reason')}; for {what}"


def _of_gates(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    edges = ("comparison", "threshold", "low", "high")
    for name in _keys(old, new):
        one, two = _mapping(old, name), _mapping(new, name)
        where = f"gates.{name}"
        rest = [{key: value for key, value in side.items() if key not in edges} for side in (one, two)]
        yield from _of_block(rest[0], rest[1], where, "gate")
        if one and two and [one.get(key) for key in edges] != [two.get(key) for key in edges]:
            effect, what = _effect_of_region(_region(one), _region(two))
            yield Change(effect, what, where, _allowed(one), _allowed(two), _text(two.get("reason", "")))


Region = tuple[tuple[float, int], tuple[float, int]]


def _region(gate: Mapping[str, Any]) -> Region | None:
    """The ends of what passes, each with 0, or with 1 or -1 where the end itself does not pass."""
    try:
        edge = [float(gate[key]) for key in (("low", "high") if gate["comparison"] == "between" else ("threshold",))]
        passes: dict[str, Region] = {
            "<": ((-math.inf, 0), (edge[0], -1)),
            "<=": ((-math.inf, 0), (edge[0], 0)),
            ">": ((edge[0], 1), (math.inf, 0)),
            ">=": ((edge[0], 0), (math.inf, 0)),
            "between": ((edge[0], 0), (edge[-1], 0)),
        }
        return passes[gate["comparison"]]
    except (KeyError, TypeError, ValueError):
        return None


def _effect_of_region(old: Region | None, new: Region | None) -> tuple[Effect, str]:
    if old is None or new is None:
        return Effect.UNCLEAR, "gate changed"
    if old[0] <= new[0] and new[1] <= old[1]:
        return Effect.NOT_LOOSER, "gate tightened"
    if new[0] <= old[0] and old[1] <= new[1]:
        return Effect.LOOSER, "gate loosened"
    return Effect.UNCLEAR, "gate moved"


def _allowed(gate: Mapping[str, Any]) -> str:
    keys = ("comparison", *(("low", "high") if gate.get("comparison") == "between" else ("threshold",)))
    return " ".join(_text(gate.get(key)) for key in keys)


def _of_milestones(old: Any, new: Any) -> Iterator[Change]:
    for index, (one, two) in enumerate(zip_longest(_list(old), _list(new))):
        where = f"milestones[{index}]"
        sides = [side if isinstance(side, Mapping) else {} for side in (one, two)]
        bands = [f"{side.get('range')} {side.get('milestone')}" if side else "" for side in sides]
        if bands[0] != bands[1]:
            reason = _text(sides[1].get("reason", ""))
            yield Change(Effect.UNCLEAR, "band moved", where, bands[0], bands[1], reason)
        for key in ("gated", "reason") if all(sides) else ():
            before, after = (side.get(key) for side in sides)
            if before != after:
                yield Change(*_effect(key, before, after), f"{where}.{key}", _text(before), _text(after))


def _of_measurement(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """What the student is held against: another split or angular floor is another figure."""
    was, now = (dict(_leaves(_mapping(side, "validate"))) for side in (old, new))
    for path in _keys(was, now):
        if was.get(path) != now.get(path):
            where = ".".join(("validate", *path))
            yield Change(Effect.UNCLEAR, "measurement changed", where, _text(was.get(path)), _text(now.get(path)))


def _of_stages(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Stages of ``dvc.yaml`` that went, or that watch less than before."""
    for name in _keys(old, new):
        where = f"dvc.yaml stages.{name}"
        if name not in new or name not in old:
            gone = name not in new
            yield Change(Effect.LOOSER if gone else Effect.NOT_LOOSER, f"stage {'removed' if gone else 'added'}", where)
            continue
        one, two = _mapping(old, name), _mapping(new, name)
        for key in ("deps", "params"):
            for item in sorted(set(map(_text, _list(one.get(key)))) - set(map(_text, _list(two.get(key))))):
                yield Change(Effect.LOOSER, f"{key} watched no longer", where, before=item)
        if one.get("cmd") != two.get("cmd"):
            yield Change(Effect.UNCLEAR, "command changed", where, _text(one.get("cmd")), _text(two.get("cmd")))
        frozen = [bool(side.get("frozen", False)) for side in (one, two)]
        if frozen[0] != frozen[1]:
            yield Change(*_effect("frozen", *frozen), where)


def _mapping(section: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = section.get(key)
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _keys(*sides: Mapping[Any, Any]) -> list[Any]:
    return list(dict.fromkeys(key for side in sides for key in side))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
