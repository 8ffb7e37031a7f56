"""Bounds: shipped defaults, overrides, and rejected declarations."""

from pathlib import Path

import pytest
import yaml

from hydrogate.checks.declarations import load_yaml
from hydrogate.checks.engine.bounds import CONTRACTS, Fit, Limits, fit_of, is_enforced, profile_names, resolve_bounds
from hydrogate.checks.engine.registry import RULES
from hydrogate.checks.errors import BadParams
from hydrogate.checks.findings import Severity

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize("profile", profile_names())
def test_every_bound_has_a_rule_and_a_reason_and_every_rule_a_bound(contract: str, profile: str) -> None:
    _, bounds = resolve_bounds(contract, profile=profile)
    assert set(bounds) == {check for of, check in RULES if of == contract}
    assert all(block.reason and block.origin for block in bounds.values())
    assert all(block.limits for block in bounds.values())


def test_no_key_of_the_defaults_is_written_twice() -> None:
    class Strict(yaml.SafeLoader):
        """Loader that rejects duplicate keys; plain YAML silently keeps the last one."""

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[str, object]:
        keys = [loader.construct_object(key) for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"line {node.start_mark.line + 1}: {keys}"
        return loader.construct_mapping(node, deep=True)

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    for path in (ROOT / "checks" / "defaults.yaml", ROOT / "params.yaml"):
        assert yaml.load(path.read_text(encoding="utf-8"), Strict)


def test_the_last_override_wins_and_the_source_is_named() -> None:
    overrides = [
        ("params.yaml", {"structures": {"hydrogen_fraction": {"min": 0.3, "max": 0.7}}}),
        ("mine.yaml", {"structures": {"hydrogen_fraction": {"min": 0.2}}}),
    ]
    _, bounds = resolve_bounds("structures", overrides=overrides)
    assert bounds["hydrogen_fraction"].limits[""] == Limits(0.2, 0.7)
    assert bounds["hydrogen_fraction"].source == "profile druglike, params.yaml, mine.yaml"


def test_a_nested_override_keeps_the_other_quantities() -> None:
    _, bounds = resolve_bounds(
        "structures", overrides=[("p", {"structures": {"element_fraction": {"N": {"max": 0.5}}}})]
    )
    assert bounds["element_fraction"].limits["N"].max == 0.5
    assert bounds["element_fraction"].limits["C"] == Limits(0.25, 0.5)


@pytest.mark.parametrize(
    ("limits", "words", "warns", "warning"),
    [
        (Limits(), "any value", False, Limits()),
        (Limits(0.5), "at least 0.5", False, Limits(0.5)),
        (Limits(max=0.0), "at most 0", False, Limits(max=0.0)),
        (Limits(0.0, 1.0, warn_max=0.8), "0 to 1", True, Limits(0.0, 0.8)),
        (Limits(2.0, 2.0), "exactly 2", False, Limits(2.0, 2.0)),
        (Limits(-1.0, 1.0, warn_min=0.0), "-1 to 1", True, Limits(0.0, 1.0)),
    ],
)
def test_limits_in_words_and_the_narrower_ones_of_a_warning(
    limits: Limits, words: str, warns: bool, warning: Limits
) -> None:
    assert (str(limits), limits.warns, limits.as_warning()) == (words, warns, warning)


def test_a_check_in_full() -> None:
    declared = {
        "enforce": "report",
        "hydrogen_fraction": {"min": 0.3, "max": 0.7, "severity": "warn", "origin": "here"},
    }
    _, bounds = resolve_bounds("structures", overrides=[("p", {"structures": declared, "labels": None})])
    _, shipped = resolve_bounds("structures")
    found, before = bounds["hydrogen_fraction"], shipped["hydrogen_fraction"]
    assert (found.check, found.severity, found.enabled) == ("hydrogen_fraction", Severity.WARN, True)
    assert (found.limits, found.origin, found.reason) == ({"": Limits(0.3, 0.7)}, "here", before.reason)
    assert (before.severity, before.source, found.source) == (Severity.ERROR, "profile druglike", "profile druglike, p")
    assert found.settings == before.settings
    assert "min_structures" in found.settings
    assert not {"enabled", "severity", "reason", "origin", "min", "max"} & set(found.settings)
    assert [name for name in bounds if bounds[name] != shipped[name]] == ["hydrogen_fraction"]


def test_a_profile_says_what_it_changes() -> None:
    _, small = resolve_bounds("structures", profile="small")
    assert not small["hydrogen_fraction"].enabled
    assert small["hydrogen_fraction"].source == "profile druglike, profile small"
    assert (fit_of("small"), fit_of("clusters")) == (Fit(max_atoms=20), Fit(min_fragments=2))
    assert (fit_of("periodic"), fit_of("druglike")) == (Fit(periodic=True), Fit())


@pytest.mark.parametrize(
    ("sections", "enforced"),
    [
        ([], True),
        ([{}], True),
        ([{"labels": None}], True),
        ([{"structures": {"enforce": "report"}}], True),
        ([{"labels": {"enforce": "report"}}], False),
        ([{"labels": {"enforce": "report"}}, {"labels": {"enforce": "refuse"}}], True),
        ([{"labels": {"enforce": "refuse"}}, {"labels": {"enforce": "report"}}, {"labels": {}}], False),
    ],
)
def test_the_last_word_on_enforcing_counts(sections: list[dict[str, object]], enforced: bool) -> None:
    assert is_enforced("labels", [(f"{i}.yaml", section) for i, section in enumerate(sections)]) is enforced  # type: ignore[arg-type]


def test_enforcing_by_halves_is_refused() -> None:
    said = r"^mine\.yaml: contracts\.labels\.enforce: expected refuse or report, got 'maybe'$"
    with pytest.raises(BadParams, match=said):
        is_enforced(
            "labels", [("p", {"labels": {"enforce": "report"}}), ("mine.yaml", {"labels": {"enforce": "maybe"}})]
        )


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"structure": {}}, "contracts: unknown key 'structure'; did you mean 'structures'?"),
        ({"structures": []}, "contracts.structures: expected a mapping, got []"),
        ({"structures": {"size": 3}}, "contracts.structures.size: expected a mapping, got 3"),
        (
            {"structures": {"size": {"max": {"C": 3}}}},
            "contracts.structures.size.max: expected a plain value, got {'C': 3}",
        ),
        (
            {"structures": {"element_fraction": {"C": 0.4}}},
            "contracts.structures.element_fraction.C: expected a mapping, got 0.4",
        ),
        ({"structures": {"size": {"enabled": 1}}}, "contracts.structures.size.enabled: expected a bool, got 1"),
        ({"structures": {"size": {"reason": 1}}}, "contracts.structures.size.reason: expected a str, got 1"),
        (
            {"structures": {"size": {"severity": "eror"}}},
            "contracts.structures.size.severity: 'eror' is unknown; did you mean 'error'?",
        ),
        ({"structures": {"size": {"max": "9"}}}, "contracts.structures.size.max: expected a number, got '9'"),
    ],
)
def test_a_refusal_says_where_it_stands(section: dict[str, object], words: str) -> None:
    with pytest.raises(BadParams) as refused:
        resolve_bounds("structures", overrides=[("p", section)])
    assert str(refused.value).replace("profile druglike, ", "") == f"p: {words}"


def test_the_overrides_choose_the_profile_and_the_caller_overrules_them() -> None:
    overrides = [("params.yaml", {"profile": "small"})]
    assert resolve_bounds("structures", overrides=overrides)[0] == "small"
    assert resolve_bounds("structures", profile="druglike", overrides=overrides)[0] == "druglike"


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"structure": {}}, "did you mean 'structures'"),
        ({"structures": {"hydrogen_fractoin": {"min": 0.1}}}, "did you mean 'hydrogen_fraction'"),
        ({"structures": {"hydrogen_fraction": {"mni": 0.1}}}, "did you mean 'min'"),
        ({"structures": {"hydrogen_fraction": {"min": "a lot"}}}, "expected a number, got 'a lot'"),
        ({"structures": {"hydrogen_fraction": {"min": True}}}, "expected a number"),
        ({"structures": {"hydrogen_fraction": {"min": float("nan")}}}, "expected a finite number"),
        ({"structures": {"hydrogen_fraction": {"min": 0.9, "max": 0.1}}}, "min 0.9 is above max 0.1"),
        ({"structures": {"hydrogen_fraction": {"severity": "eror"}}}, "did you mean 'error'"),
        ({"structures": {"hydrogen_fraction": {"enabled": "no"}}}, "expected a bool"),
        ({"structures": {"hydrogen_fraction": 0.4}}, "expected a mapping"),
        ({"structures": {"element_fraction": {"C": 0.4}}}, "expected a mapping"),
        ({"structures": {"hydrogen_fraction": {"min_structures": float("inf")}}}, "expected a finite number"),
        ({"structures": []}, "expected a mapping"),
        ({"profile": "druglik"}, "did you mean 'druglike'"),
    ],
)
def test_a_bad_declaration_is_refused_with_the_nearest_known_one(section: dict[str, object], words: str) -> None:
    with pytest.raises(BadParams, match=words):
        resolve_bounds("structures", overrides=[("params.yaml", section)])


def test_an_unknown_contract_is_refused() -> None:
    with pytest.raises(BadParams, match="did you mean 'labels'"):
        resolve_bounds("label")


def test_a_warning_of_a_check_that_only_warns_is_its_bound() -> None:
    _, bounds = resolve_bounds("structures", overrides=[("p", {"structures": {"min_distance": {"severity": "warn"}}})])
    assert bounds["min_distance"].limits[""] == Limits(0.8)


@pytest.mark.parametrize(
    ("content", "words"),
    [("- a", "contains a list"), ("a: [", "not readable as YAML"), ("a: !!python/name:os.system", "YAML")],
)
def test_yaml_that_is_no_declaration_is_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(content)
    with pytest.raises(BadParams, match=words):
        load_yaml(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadParams, match=r"gone\.yaml: no such file"):
        load_yaml(tmp_path / "gone.yaml")


@pytest.mark.parametrize("contract", CONTRACTS)
def test_the_pipeline_declares_the_shipped_bounds_and_says_what_it_switches_off(contract: str) -> None:
    params = load_yaml(ROOT / "params.yaml")
    _, shipped = resolve_bounds(contract)
    _, declared = resolve_bounds(contract, overrides=[("params.yaml", params["contracts"])])
    assert params["contracts"][contract].get("enforce", "refuse") == "refuse"
    assert set(params["contracts"][contract]) - {"enforce"} == set(shipped)
    for name, bounds in shipped.items():
        assert (declared[name].limits, declared[name].settings) == (bounds.limits, bounds.settings), name
    off = {name for name, bounds in declared.items() if not bounds.enabled}
    # These lack an input: the sample is its own reference, has no isolated atoms, and has bond blocks.
    assert off <= {
        "element_drift",
        "force_scale_by_element",
        "distribution_drift",
        "isolated_atom_energies",
        "perceivable_bonds",
    }
