"""Every way in which a branch can loosen a declaration, with its effect."""

from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from hydrogate.checks.diff.declarations_diff import WAIVERS_NAMED, Declaration, compare_declarations
from hydrogate.checks.diff.loosening import Change, Effect

ROOT = Path(__file__).parents[3]
DEFAULTS = yaml.safe_load(files("hydrogate.checks").joinpath("defaults.yaml").read_text("utf-8"))
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))
SHIPPED = Declaration(DEFAULTS, PARAMS, PIPELINE)
WAIVER = {
    "contract": "labels", "check": "net_force", "pattern": "old*.sdf", "reason": "known", "author": "Ann",
    "expires": "2030-01-31",
}  # fmt: skip


def put(declaration: Declaration, key: str, value: Any) -> Declaration:
    """Return the declaration with ``key`` (``params/gates/force_rmse/required``) set, or removed if it is ``...``."""
    changed = deepcopy(declaration)
    file, *path, last = key.split("/")
    block: Any = getattr(changed, file)
    for part in path:
        block = block[int(part)] if isinstance(block, list) else block[part]
    if value is ...:
        del block[last]
    else:
        block[last] = value
    return changed


def compared(key: str, value: Any, base: Declaration = SHIPPED) -> tuple[Change, ...]:
    return compare_declarations(base, put(base, key, value))


def test_nothing_changed() -> None:
    assert compare_declarations(SHIPPED, deepcopy(SHIPPED)) == ()


LOOSER = [
    ("params/contracts/structures/hydrogen_fraction/max", 0.8, "bound loosened", "0.6", "0.8"),
    ("params/contracts/structures/hydrogen_fraction/min", 0.1, "bound loosened", "0.4", "0.1"),
    ("params/contracts/structures/hydrogen_fraction/min", None, "bound loosened", "0.4", "null"),
    ("params/contracts/structures/element_fraction/N/max", 0.9, "bound loosened", "0.2", "0.9"),
    ("params/contracts/structures/min_distance/warn_min", 0.1, "bound loosened", "0.8", "0.1"),
    ("params/contracts/structures/split_leakage/enabled", False, "check switched off", "true", "false"),
    ("params/contracts/labels/net_torque/severity", "warn", "severity lowered to warn", "error", "warn"),
    ("params/contracts/labels/restoring_forces/min_bonds", 1, "setting loosened", "100", "1"),
    ("params/contracts/labels/label_audit/structures", 1, "setting loosened", "20", "1"),
    ("params/contracts/labels/hydrogen_forces/may_be_absent", True, "setting loosened", "false", "true"),
    ("params/contracts/structures/bond_lengths_match_orders/standard_errors", 9, "setting loosened", "3", "9"),
    ("params/gates/force_rmse/threshold", 0.5, "gate loosened", "< 0.25", "< 0.5"),
    ("params/gates/force_rmse/comparison", "<=", "gate loosened", "< 0.25", "<= 0.25"),
    ("params/gates/hydrogen_fraction/low", 0.0, "gate loosened", "between 0.4 0.6", "between 0.0 0.6"),
    ("params/gates/force_rmse/required", False, "gate no longer required", "true", "false"),
    ("params/gates/force_rmse/confidence", 0, "confidence lowered", "0.95", "0"),
    ("params/gates/force_rmse/one_sided", True, "gate judged by one interval end", "false", "true"),
    ("params/gates/force_rmse/min_n", 2, "min_n lowered", "20", "2"),
    ("params/gates/force_rmse/reason", " ", "reason emptied", PARAMS["gates"]["force_rmse"]["reason"], " "),
    ("params/gates/force_rmse", ..., "gate removed", "", ""),
    ("params/milestones/0/gated", False, "band no longer requires the gates", "true", "false"),
    ("params/milestones/0/reason", "", "reason emptied", PARAMS["milestones"][0]["reason"], ""),
    ("pipeline/stages/guard_labels", ..., "stage removed", "", ""),
    ("pipeline/stages/train/deps", [], "deps no longer tracked", "data/labels.ok", ""),
    ("pipeline/stages/check_labels/params", [], "params no longer tracked", "contracts.labels", ""),
    ("pipeline/stages/check_labels/frozen", True, "stage frozen", "", ""),
]


@pytest.mark.parametrize(("key", "value", "what", "before", "after"), LOOSER)
def test_what_lets_more_through_is_told_first(key: str, value: Any, what: str, before: str, after: str) -> None:
    found = compared(key, value)
    assert found[0].effect is Effect.LOOSER
    assert (what, before, after) in [(change.what, change.before, change.after) for change in found]


def test_the_way_back_is_no_loosening() -> None:
    for key, value, *_ in LOOSER:
        loosened = put(SHIPPED, key, value)
        assert {change.effect for change in compare_declarations(loosened, SHIPPED)} <= {Effect.NOT_LOOSER}, key


def test_a_looser_shipped_default_counts_where_nothing_overrides_it() -> None:
    key = "defaults/profiles/druglike/labels/net_force/exact_teachers"
    assert compared(key, ["xtb", "orb"])[0].effect is Effect.UNCLEAR
    own = Declaration(DEFAULTS, {"contracts": {}}, {})
    (change,) = compared("defaults/profiles/druglike/labels/net_torque/max", 5.0, own)
    assert (change.effect, change.where) == (Effect.LOOSER, "contracts.labels.net_torque.max")
    assert change.reason.startswith("an isolated molecule has no net torque")


@pytest.mark.parametrize("profile", ["druglike", "periodic"])
def test_a_looser_shipped_bound_that_is_not_in_force_here_is_told_too(profile: str) -> None:
    (change,) = compared(f"defaults/profiles/{profile}/structures/xh_spread/min", 1e-9)
    assert (change.effect, change.what) == (Effect.UNCLEAR, "bound loosened, as shipped")
    assert change.where == f"checks/defaults.yaml {profile}: contracts.structures.xh_spread.min"
    assert compared(f"defaults/profiles/{profile}/structures/xh_spread/min", 1.0) == ()


def test_an_element_with_a_band_of_its_own_is_compared_with_that_of_the_others() -> None:
    found = compared("params/contracts/structures/element_fraction/F", {"min": 0.0, "max": 0.9})
    assert [(change.effect, change.where, change.before, change.after) for change in found] == [
        (Effect.LOOSER, "contracts.structures.element_fraction.F.max", "0.1", "0.9")
    ]


def test_a_stricter_override_taken_out_is_a_loosening() -> None:
    strict = put(SHIPPED, "params/contracts/structures/hydrogen_fraction/max", 0.5)
    (change,) = compared("params/contracts/structures/hydrogen_fraction", ..., strict)
    assert (change.effect, change.before, change.after) == (Effect.LOOSER, "0.5", "0.6")


def test_a_reason_emptied_in_the_shipped_bounds_is_called_out() -> None:
    key = "defaults/profiles/druglike/structures/split_leakage/reason"
    assert [change.what for change in compared(key, "")] == ["reason emptied"]
    assert [(change.effect, change.what) for change in compared(key, "x")] == [(Effect.NOT_LOOSER, "reason reworded")]
    key = "defaults/profiles/druglike/structures/split_leakage/origin"
    assert [(change.effect, change.what) for change in compared(key, "")] == [(Effect.LOOSER, "origin emptied")]
    assert [(change.effect, change.what) for change in compared(key, "x")] == [(Effect.NOT_LOOSER, "origin reworded")]


def test_a_check_that_no_default_declares_any_more() -> None:
    bare = Declaration(DEFAULTS, {}, {})
    change = compared("defaults/profiles/druglike/labels/net_torque", ..., bare)[0]
    assert (change.effect, change.what, change.where) == (Effect.LOOSER, "check removed", "contracts.labels.net_torque")


def test_another_profile_is_told_with_all_that_it_changes() -> None:
    found = compared("params/contracts/profile", "periodic")
    assert ("profile changed", "druglike", "periodic") in [(one.what, one.before, one.after) for one in found]
    off = {change.where for change in found if change.what == "check switched off"}
    assert "contracts.labels.net_torque.enabled" in off


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("params/contracts/structures/hydrogen_fraction/min_structures", 5000, "setting changed"),
        ("params/contracts/structures/hydrogen_fraction/severity", "mild", "setting changed"),
        ("params/contracts/labels/label_audit/seed", 7, "setting changed"),
        ("params/contracts/labels/net_torque/max", "much", "bound changed"),
        ("params/contracts/labels/net_torque/max", float("nan"), "bound changed"),
        ("params/contracts/labels/net_torque/max", True, "bound changed"),
        ("params/contracts/labels/net_torque/maximum", 9, "setting changed"),
        ("params/gates/force_rmse/metric", "force_mae", "setting changed"),
        ("params/gates/force_rmse/threshold", "low", "gate changed"),
        ("params/gates/force_rmse/comparison", ">", "gate moved"),
        ("params/milestones/1/range", "[0.15, 0.35)", "band moved"),
        ("params/milestones/1/milestone", "pivot_so3lr", "band moved"),
        ("params/milestones/1", ..., "band moved"),
        ("params/validate/angular_floor", 5.0, "measurement changed"),
        ("params/validate/split", "valid", "measurement changed"),
        ("params/dynamics/limits/drift", 50.0, "measurement changed"),
        ("params/label/teacher", "orb", "measurement changed"),
        ("params/regenerate/split/by", "scaffold", "measurement changed"),
        ("params/regenerate/elements", ["H", "C", "Si"], "measurement changed"),
        ("pipeline/stages/guard_labels/cmd", "true", "command changed"),
        ("pipeline/stages/guard_labels/wdir", "elsewhere", "wdir changed"),
        ("pipeline/stages/guard_labels/outs", [], "outs changed"),
        ("pipeline/stages/check_predictions/metrics", ..., "metrics changed"),
        ("pipeline/vars", ["other.yaml"], "vars changed"),
    ],
)
def test_what_may_let_more_through_is_not_passed_over(key: str, value: Any, what: str) -> None:
    if key.startswith("params/milestones/1") and value is ...:
        changed = put(SHIPPED, "params/milestones", PARAMS["milestones"][:1] + PARAMS["milestones"][2:])
        found = compare_declarations(SHIPPED, changed)
    else:
        found = compared(key, value)
    assert (Effect.UNCLEAR, what) in [(change.effect, change.what) for change in found]


@pytest.mark.parametrize(
    "key",
    ["contracts", "contracts/structures", "contracts/waivers", "gates", "gates/force_rmse", "milestones", "validate"],
)
@pytest.mark.parametrize("value", [None, "text", 3, [1], {"x": 1}, [{"y": []}]])
def test_a_declaration_that_no_reader_takes_is_compared_all_the_same(key: str, value: Any) -> None:
    no_waivers = key == "contracts/waivers" and value is None
    assert bool(compared(f"params/{key}", value)) != no_waivers


def test_what_is_not_declared_is_told_as_nothing() -> None:
    (change,) = compared("pipeline/vars", ["other.yaml"])
    assert (change.before, change.after, change.reason) == ("", '["other.yaml"]', "")
    bare = put(SHIPPED, "params/gates/force_rmse/reason", ...)
    assert [change.reason for change in compared("params/gates/force_rmse/min_n", 2, bare)] == [""]


def test_the_words_and_the_command_of_a_band_are_told() -> None:
    for key in ("status", "advice", "command"):
        (change,) = compared(f"params/milestones/3/{key}", "fine")
        assert (change.effect, change.what) == (Effect.NOT_LOOSER, f"{key} changed")


def test_waivers() -> None:
    found = compared("params/contracts/waivers", [WAIVER])
    assert [(change.effect, change.what, change.where) for change in found] == [
        (Effect.LOOSER, "waiver added", "contracts.waivers[0]")
    ]
    assert found[0].after == "labels.net_force, Ann until 2030-01-31: known; for old*.sdf"
    waived = put(SHIPPED, "params/contracts/waivers", [WAIVER])
    assert [change.effect for change in compared("params/contracts/waivers", [], waived)] == [Effect.NOT_LOOSER]
    assert compared("params/contracts/waivers", [WAIVER], waived) == ()
    # A second, equal waiver, and one with a postponed date.
    assert [change.where for change in compared("params/contracts/waivers", [WAIVER, WAIVER], waived)] == [
        "contracts.waivers[1]"
    ]
    later = compared("params/contracts/waivers", [WAIVER | {"expires": "2099-01-31"}], waived)
    assert [(change.effect, change.what) for change in later] == [
        (Effect.LOOSER, "waiver added"), (Effect.NOT_LOOSER, "waiver removed"),
    ]  # fmt: skip


def test_many_waivers_are_counted_by_check() -> None:
    many = [WAIVER | {"pattern": f"old{index}.sdf"} for index in range(WAIVERS_NAMED + 500)]
    found = compared("params/contracts/waivers", [*many, "nonsense"])
    assert len(found) == WAIVERS_NAMED + 1
    assert (found[-1].what, found[-1].after) == ("501 further waivers added", "labels.net_force: 500, nonsense: 1")
