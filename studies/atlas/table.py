"""Published form of the atlas: errors relative to those of the student trained on the clean sample.

A strength of a data corruption is costly in one of three cases: an error of its student is more than 5 % larger than
that of the clean student, with an interval that excludes 0 %; more of its molecules fail in MD, with each seed that
was run; or training gives no student.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ORDER = ("1 %", "5 %", "20 %", "100 %")
COSTS = 0.05
TIMES = 1000.0  # larger ratios of errors are reported as this one
MEASURED = ("force_rmse", "force_rmse_H", "energy_mae_per_atom", "md_force_rmse")
OURS, AUDITED = "hydrogate", "hydrogate_audit"
Table = dict[str, Any]


def table_of(report: Mapping[str, Any], place: Path) -> Table:
    """Convert a report into its published form.

    Parameters
    ----------
    report : mapping
        Report as written by ``studies/atlas``.
    place : Path
        Folder with the predictions of the students.
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
    """Return errors of one student relative to the clean student of the same seed; {} if it was not run."""
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
    """Return the relative error ``name``: mean over the seeds, lowest and highest end of their intervals."""
    known = [one[name] for one in damage.values() if isinstance(one.get(name, {}).get("value"), float)]
    if not known:
        return None
    values = [float(one["value"]) for one in known]
    low = min(float(one.get("low", one["value"])) for one in known)
    return sum(values) / len(values), low, max(float(one.get("high", one["value"])) for one in known)


def cost(damage: Mapping[str, Any]) -> float | None:
    """Return the largest relative increase of an error, 0.05 for 5 %; infinite without a student, None if not run."""
    if not damage:
        return None
    if any("no_student" in one for one in damage.values()):
        return math.inf
    found = [of[0] - 1.0 for name in MEASURED if (of := ratio(damage, name))]
    return max(found) if found else None


def costly(damage: Mapping[str, Any], most: float = math.inf) -> bool:
    """Return True if the cost is above ``COSTS``, at most ``most``, and significant for the held-out molecules."""
    value = cost(damage)
    if value is None or value > most:
        return False
    if value == math.inf or all(one.get("md_lost", 0) > one.get("md_lost_clean", 0) for one in damage.values()):
        return True
    return any(of[0] > 1.0 + COSTS and of[1] > 1.0 for name in MEASURED if (of := ratio(damage, name)))


def weakest(about: Mapping[str, Any], validator: str) -> str | None:
    """Return the weakest strength from which ``validator`` finds all stronger ones; "" for none, None if unknown."""
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
    """Yield each costly corruption and strength that the contracts without the teacher miss."""
    for name, about in table["accidents"].items():
        for strength, one in about["strengths"].items():
            if costly(one["damage"]) and one["complaints"].get(OURS) == 0:
                yield name, strength


def seen_by_one(table: Table) -> dict[str, list[tuple[str, str]]]:
    """Return corruptions, at their weakest costly strength, that a single check finds, grouped by that check."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, about in table["accidents"].items():
        ascending = ((strength, about["strengths"].get(strength)) for strength in ORDER)
        weak = next(((at, one) for at, one in ascending if one and costly(one["damage"])), None)
        if weak and weak[1]["complaints"].get(OURS) == 1:
            found.setdefault(weak[1]["by"][0], []).append((name, weak[0]))
    return found
