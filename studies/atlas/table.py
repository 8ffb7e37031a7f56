"""What the accident atlas found, in the form in which it is published: errors over those of the clean sample's student.

A strength of an accident is costly where one of the errors of its student is more than 5 % larger than that of the
student of the clean sample, with an interval that excludes 0 %, where more of its molecules did not survive their
dynamics, by each seed that was run, or where there is no student.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ORDER = ("1 %", "5 %", "20 %", "100 %")
COSTS = 0.05
TIMES = 1000.0  # an error that grew by more is said to have grown by so much
MEASURED = ("force_rmse", "force_rmse_H", "energy_mae_per_atom", "md_force_rmse")
OURS, AUDITED = "hydrogate", "hydrogate_audit"
Table = dict[str, Any]


def table_of(report: Mapping[str, Any], place: Path) -> Table:
    """What a report says, in the form in which it is published.

    Parameters
    ----------
    report : mapping
        As ``studies/atlas`` keeps it.
    place : Path
        Where the predictions of the students are.
    """
    clean = report["cases"].get("clean", {}).get("all", {})
    accidents = {}
    for name, about in sorted(report["accidents"].items()):
        strengths = {}
        for strength in ORDER:
            case = report["cases"].get(name, {}).get(strength)
            if case is None:
                continue
            said = report["detection"].get(name, {}).get(strength, {})
            strengths[strength] = {
                "structures": case["structures"],
                "unusable": case["unusable"],
                "complaints": {validator: one["complaints"] for validator, one in sorted(said.items())},
                "by": said.get(OURS, {}).get("examples", []),
                "damage": _damage(report["runs"], case, clean, place),
            }
        accidents[name] = {**about, "strengths": strengths}
    alarms = {name: {k: v for k, v in one.items() if k != "code"} for name, one in report["false_alarms"].items()}
    other = {"content": clean.get("content", "")}
    return {
        "head": report["head"],
        "structures": report["structures"],
        "clean": _absolute(report["runs"], clean),
        "another_seed": _seed(report["runs"], other, clean.get("other"), clean, place),
        "validators": report["validators"],
        "false_alarms": alarms,
        "accidents": accidents,
    }


def _absolute(runs: Mapping[str, Any], clean: Mapping[str, Any]) -> Any:
    return {str(seed): runs.get(f"{clean['content']}-{seed}") for seed in clean.get("seeds", ())}


def _damage(runs: Mapping[str, Any], case: Mapping[str, Any], clean: Mapping[str, Any], place: Path) -> dict[str, Any]:
    found = {}
    for seed in clean.get("seeds", ()):
        if one := _seed(runs, case, seed, clean, place):
            found[str(seed)] = one
    return found


def _seed(
    runs: Mapping[str, Any], case: Mapping[str, Any], seed: int | None, clean: Mapping[str, Any], place: Path
) -> dict[str, Any]:
    """The errors of one student over those of the clean one of the same seed; {} where it was not run."""
    from studies.atlas.damage import ratios

    ours = runs.get(f"{case.get('content')}-{seed}")
    first = seed if seed in clean.get("seeds", ()) else next(iter(clean.get("seeds", ())), None)
    theirs = runs.get(f"{clean.get('content')}-{first}")
    if ours is None or theirs is None:
        return {}
    if "no_student" in ours:
        return {"no_student": ours["no_student"]}
    found = ratios(place, f"{case['content']}-{seed}", f"{clean['content']}-{first}")
    return {
        **{name: metric.to_dict() for name, metric in found.items()},
        "md_lost": ours["md_lost"],
        "md_lost_clean": theirs["md_lost"],
    }


def ratio(damage: Mapping[str, Any], name: str) -> tuple[float, float, float] | None:
    """The error ``name`` over the clean one's: its mean over the seeds, the lowest and highest end of an interval."""
    known = [one[name] for one in damage.values() if isinstance(one.get(name, {}).get("value"), float)]
    if not known:
        return None
    values = [float(one["value"]) for one in known]
    low = min(float(one.get("low", one["value"])) for one in known)
    return sum(values) / len(values), low, max(float(one.get("high", one["value"])) for one in known)


def cost(damage: Mapping[str, Any]) -> float | None:
    """How much larger the error is that grew most, 0.05 for 5 %; infinite without a student, None where not run."""
    if not damage:
        return None
    if any("no_student" in one for one in damage.values()):
        return math.inf
    found = [of[0] - 1.0 for name in MEASURED if (of := ratio(damage, name))]
    return max(found) if found else None


def costly(damage: Mapping[str, Any], most: float = math.inf) -> bool:
    """Whether it costs more than ``COSTS`` and at most ``most``, beyond the chance of the held-out molecules."""
    value = cost(damage)
    if value is None or value > most:
        return False
    if value == math.inf or all(one.get("md_lost", 0) > one.get("md_lost_clean", 0) for one in damage.values()):
        return True
    return any(of[0] > 1.0 + COSTS and of[1] > 1.0 for name in MEASURED if (of := ratio(damage, name)))


def weakest(about: Mapping[str, Any], validator: str) -> str | None:
    """The weakest strength from which on ``validator`` complains of every stronger one; "" for none, None unknown."""
    found: str | None = None
    for strength in reversed(ORDER):
        one = about["strengths"].get(strength)
        if one is None or one["unusable"] or validator not in one["complaints"]:
            continue
        if not one["complaints"][validator]:
            return found or ""
        found = strength
    return found


def gaps(table: Table) -> Iterator[tuple[str, str]]:
    """Each accident and strength that is costly, and that the contracts without the teacher do not see."""
    for name, about in table["accidents"].items():
        for strength, one in about["strengths"].items():
            if costly(one["damage"]) and one["complaints"].get(OURS) == 0:
                yield name, strength


def seen_by_one(table: Table) -> dict[str, list[tuple[str, str]]]:
    """Accident and weakest costly strength where one check alone sees it, by that check."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, about in table["accidents"].items():
        ascending = ((strength, about["strengths"].get(strength)) for strength in ORDER)
        weak = next(((at, one) for at, one in ascending if one and costly(one["damage"])), None)
        if weak and weak[1]["complaints"].get(OURS) == 1:
            found.setdefault(weak[1]["by"][0], []).append((name, weak[0]))
    return found
