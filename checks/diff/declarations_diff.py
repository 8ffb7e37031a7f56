"""Comparison of the declarations of two revisions: each change with its effect, loosened bounds first.

Bounds are compared as resolved, shipped defaults first and ``params.yaml`` over them, so that a looser default and a
removed stricter override are found too. The comparison is lenient: a declaration that its reader would reject is
compared anyway, because the report on a broken branch must still list what the branch loosened.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, NamedTuple

from hydrogate.checks.diff.loosening import ABSENT, Change, Effect, effect_of, text_of
from hydrogate.checks.engine.bounds import CONTRACTS

WAIVERS_NAMED = 20
_DEFAULT_PROFILE = "druglike"
# Sections of params.yaml that determine the data and the settings that contracts and gates are measured with.
_MEASURING = (
    ("validate",),
    ("dynamics",),
    ("label", "teacher"),
    ("label", "method"),
    ("regenerate", "elements"),
    ("regenerate", "split"),
)
# Keys of a stage that are compared separately, or that no verdict depends on.
_TOLD_ELSEWHERE = ("deps", "params", "cmd", "frozen", "plots", "desc", "meta")


class Declaration(NamedTuple):
    """Declarations at one revision: the content of ``checks/defaults.yaml``, ``params.yaml`` and ``dvc.yaml``."""

    defaults: Mapping[str, Any]
    params: Mapping[str, Any]
    pipeline: Mapping[str, Any]


def compare_declarations(before: Declaration, after: Declaration) -> tuple[Change, ...]:
    """List every change of contracts, waivers, gates, milestones, measurement and stages; loosening ones first.

    Parameters
    ----------
    before, after : Declaration
        Declarations of the base and of the branch.
    """
    found = [
        *_of_contracts(before, after),
        *_of_waivers(before.params, after.params),
        *_of_gates(_mapping(before.params, "gates"), _mapping(after.params, "gates")),
        *_of_milestones(before.params.get("milestones"), after.params.get("milestones")),
        *_of_measurement(before.params, after.params),
        *_of_stages(_mapping(before.pipeline, "stages"), _mapping(after.pipeline, "stages")),
        *_of_templates(before.pipeline, after.pipeline),
    ]
    found += _of_shipped(before.defaults, after.defaults, {change.where for change in found})
    order = list(Effect)
    return tuple(sorted(found, key=lambda change: order.index(change.effect)))


def _of_contracts(before: Declaration, after: Declaration) -> Iterator[Change]:
    profiles = [_mapping(one.params, "contracts").get("profile") or _DEFAULT_PROFILE for one in (before, after)]
    if profiles[0] != profiles[1]:
        yield Change(Effect.UNCLEAR, "profile changed", "contracts.profile", *map(text_of, profiles))
    was, now = _resolved(before), _resolved(after)
    for contract in CONTRACTS:
        before_it, after_it = (_mapping(side, contract).get("enforce", "refuse") for side in (was, now))
        yield from _of_enforcement(before_it, after_it, contract)
        checks = [check for check in _keys(_mapping(was, contract), _mapping(now, contract)) if check != "enforce"]
        for check in checks:
            old, new = (_mapping(_mapping(side, contract), check) for side in (was, now))
            yield from _of_block(old, new, f"contracts.{contract}.{check}", "check")


def _of_enforcement(before: object, after: object, contract: str) -> Iterator[Change]:
    if before != after:
        effect = Effect.NOT_LOOSER if after == "refuse" else Effect.LOOSER
        what = "contract failures block again" if after == "refuse" else "contract failures no longer block"
        yield Change(effect, what, f"contracts.{contract}.enforce", text_of(before), text_of(after))


def _of_shipped(old: Mapping[str, Any], new: Mapping[str, Any], told: set[str]) -> Iterator[Change]:
    """Yield changed shipped bounds that are not in force in this project; those in force are already in ``told``."""
    sides = [_mapping(side, "profiles") for side in (old, new)]
    for profile in _keys(*sides):
        for change in _of_contracts(
            *(Declaration({"profiles": side}, {"contracts": {"profile": profile}}, {}) for side in sides)
        ):
            if change.effect is not Effect.NOT_LOOSER and change.where not in told:
                told = told | {change.where}
                where = f"checks/defaults.yaml {profile}: {change.where}"
                yield replace(change, effect=Effect.UNCLEAR, what=f"{change.what}, as shipped", where=where)


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
    """Yield the changes of one check or gate: added, removed, or changed keys."""
    if not new or not old:
        gone = Effect.NOT_LOOSER if new else Effect.LOOSER
        yield Change(gone, f"{noun} {'added' if new else 'removed'}", where, reason=text_of(new.get("reason", "")))
        return
    flat_old, flat_new = dict(_leaves(old)), dict(_leaves(new))
    for path in _keys(flat_old, flat_new):
        one, two = _value(flat_old, path), _value(flat_new, path)
        if one != two or (type(one) is not type(two) and bool in (type(one), type(two))):
            effect, what = effect_of(path[-1], one, two)
            key = ".".join((where, *path))
            yield Change(effect, what, key, text_of(one), text_of(two), text_of(new.get("reason", "")))


def _value(leaves: Mapping[tuple[str, ...], Any], path: tuple[str, ...]) -> Any:
    """Return the value at ``path`` or its default; ``other`` applies to each element without an entry of its own."""
    of_others = leaves.get((*path[:-2], "other", path[-1])) if len(path) > 1 else None
    return leaves.get(path, ABSENT.get(path[-1], of_others))


def _leaves(block: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in block.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


def _of_waivers(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    was, now = (_list(_mapping(side, "contracts").get("waivers")) for side in (old, new))
    known, kept = Counter(map(text_of, was)), Counter(map(text_of, now))
    added = []
    for index, waiver in enumerate(now):
        if known[text_of(waiver)]:
            known[text_of(waiver)] -= 1
        else:
            added.append((index, waiver))
    for index, waiver in added[:WAIVERS_NAMED]:
        yield Change(Effect.LOOSER, "waiver added", f"contracts.waivers[{index}]", after=_waiver(waiver))
    if rest := added[WAIVERS_NAMED:]:
        counts = Counter(_waived(waiver) for _, waiver in rest)
        told = ", ".join(f"{name}: {count}" for name, count in counts.most_common(WAIVERS_NAMED))
        yield Change(Effect.LOOSER, f"{len(rest)} further waivers added", "contracts.waivers", after=told)
    for waiver in was:
        if not kept[text_of(waiver)]:
            yield Change(Effect.NOT_LOOSER, "waiver removed", "contracts.waivers", before=_waiver(waiver))


def _waived(waiver: Any) -> str:
    return f"{waiver.get('contract')}.{waiver.get('check')}" if isinstance(waiver, Mapping) else text_of(waiver)


def _waiver(waiver: Any) -> str:
    if not isinstance(waiver, Mapping):
        return text_of(waiver)
    what = ", ".join(text_of(waiver[key]) for key in ("pattern", "fingerprint", "structures") if waiver.get(key))
    signed = f"{waiver.get('author', 'no author')} until {waiver.get('expires', 'no date')}"
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
            yield Change(effect, what, where, _allowed(one), _allowed(two), text_of(two.get("reason", "")))


Region = tuple[tuple[float, int], tuple[float, int]]


def _region(gate: Mapping[str, Any]) -> Region | None:
    """Return the ends of the passing interval, each with 0, or with 1 or -1 if the end itself does not pass."""
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
    return " ".join(text_of(gate.get(key)) for key in keys)


def _of_milestones(old: Any, new: Any) -> Iterator[Change]:
    for index, (one, two) in enumerate(zip_longest(_list(old), _list(new))):
        where = f"milestones[{index}]"
        sides = [side if isinstance(side, Mapping) else {} for side in (one, two)]
        bands = [f"{side.get('range')} {side.get('milestone')}" if side else "" for side in sides]
        if bands[0] != bands[1]:
            reason = text_of(sides[1].get("reason", ""))
            yield Change(Effect.UNCLEAR, "band moved", where, bands[0], bands[1], reason)
        for key in _keys(*sides) if all(sides) else ():
            before, after = (side.get(key, "") for side in sides)
            if key not in ("range", "milestone") and before != after:
                yield Change(*effect_of(key, before, after), f"{where}.{key}", text_of(before), text_of(after))


def _of_measurement(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Yield changes of the measurement: another split, angular floor or teacher gives another value."""
    was, now = (
        {path: value for path, value in _leaves(side) if path[:1] in _MEASURING or path[:2] in _MEASURING}
        for side in (old, new)
    )
    for path in _keys(was, now):
        if was.get(path) != now.get(path):
            yield Change(
                Effect.UNCLEAR, "measurement changed", ".".join(path), text_of(was.get(path)), text_of(now.get(path))
            )


def _of_stages(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Yield changes of the stages of ``dvc.yaml``: removed stages, dependencies no longer tracked, changed commands."""
    for name in _keys(old, new):
        where = f"dvc.yaml stages.{name}"
        if name not in new or name not in old:
            gone = name not in new
            yield Change(Effect.LOOSER if gone else Effect.NOT_LOOSER, f"stage {'removed' if gone else 'added'}", where)
            continue
        one, two = _mapping(old, name), _mapping(new, name)
        for key in ("deps", "params"):
            for item in sorted(set(map(text_of, _list(one.get(key)))) - set(map(text_of, _list(two.get(key))))):
                yield Change(Effect.LOOSER, f"{key} no longer tracked", where, before=item)
        if one.get("cmd") != two.get("cmd"):
            yield Change(Effect.UNCLEAR, "command changed", where, text_of(one.get("cmd")), text_of(two.get("cmd")))
        frozen = [bool(side.get("frozen", False)) for side in (one, two)]
        if frozen[0] != frozen[1]:
            yield Change(*effect_of("frozen", *frozen), where)
        for key in _keys(one, two):
            if key not in _TOLD_ELSEWHERE and one.get(key) != two.get(key):
                yield Change(
                    Effect.UNCLEAR, f"{key} changed", where, text_of(one.get(key, "")), text_of(two.get(key, ""))
                )


def _of_templates(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Yield a change of ``vars``, the values that ``dvc.yaml`` templates into its stages."""
    if old.get("vars") != new.get("vars"):
        yield Change(
            Effect.UNCLEAR, "vars changed", "dvc.yaml vars", text_of(old.get("vars", "")), text_of(new.get("vars", ""))
        )


def _mapping(section: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = section.get(key)
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _keys(*sides: Mapping[Any, Any]) -> list[Any]:
    return list(dict.fromkeys(key for side in sides for key in side))
