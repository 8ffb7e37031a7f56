"""Malicious declarations, and declarations with keys that YAML would drop: rejected quickly, with the file name."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from pydantic import Field, ValidationError

from hydrogate.checks.declarations import Section, explain, load_yaml, parse_yaml
from hydrogate.checks.errors import BadParams, did_you_mean

LETTERS = "abcdefghijkl"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(9 * ['*' + before])}]\n" for before, name in pairwise(LETTERS)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "more than 100000 values"),
        (BOMB + "contracts: {labels: {force_rms: {max: *l}}}", "more than 100000 values"),
        ("contracts: &a {labels: *a}", "recursive alias: the value contains itself"),
        ("contracts: &a [*a]", "recursive alias: the value contains itself"),
        ("contracts: {labels: 1}\ncontracts: {labels: 2}", "duplicate key 'contracts'"),
        ("contracts: {labels: {max: 5, max: 6}}", r"duplicate key 'max'[\s\S]*line 1, column 30"),
        ("contracts: !!python/object/apply:os.system [exit]", "could not determine a constructor"),
        ("contracts: !mine x", "could not determine a constructor"),
        ("contracts: " + "[" * 100_000, "recursion"),
        ("contracts: " + "{a: " * 3000 + "1" + "}" * 3000, "recursion"),
        ("contracts: " + "9" * 5000, "Exceeds the limit"),
        ("contracts: 2026-13-45", "month must be in"),
        ("contracts: {}\n---\ncontracts: {}", "expected a single document"),
        ("contracts: \0", "special characters are not allowed"),
        ("contracts:\n\tlabels: 1", "cannot start any token"),
        ("[1, 2]", "contains a list, expected a mapping"),
        ("", "contains nothing, expected a mapping"),
    ],
)
def test_refused_by_name(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadParams, match=rf"bad\.yaml: [\s\S]*{words}"):
        load_yaml(path)


def test_letters_that_are_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes("contracts: {ä: 1}".encode("latin-1"))
    with pytest.raises(BadParams, match=r"bad\.yaml: not readable as YAML"):
        load_yaml(path)


def test_aliases_and_merges_that_people_write_are_read() -> None:
    text = "loose: &loose {max: 5}\ncontracts: {labels: {force_rms: *loose, net_torque: {<<: *loose, severity: warn}}}"
    assert parse_yaml(text) == yaml.safe_load(text)


def test_a_declaration_may_hold_so_many_values_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydrogate.checks.declarations.MOST_VALUES", 4)
    assert parse_yaml("[x, x, x]") == ["x", "x", "x"]  # the list itself counts too
    assert parse_yaml("{k: x}") == {"k": "x"}
    for text in ("[x, x, x, x]", "{k: x, l: x}", "[&a [x], *a]"):
        with pytest.raises(yaml.YAMLError, match="more than 4 values"):
            parse_yaml(text)


def test_a_key_may_stand_once_in_each_mapping_and_as_text_and_number() -> None:
    assert parse_yaml("a: {k: 1}\nb: {k: 2}\n1: x\n'1': y") == {"a": {"k": 1}, "b": {"k": 2}, 1: "x", "1": "y"}


class Inner(Section):
    """Nested section."""

    least: int
    of: str = Field("H", alias="of_element")


class Outer(Section):
    """Top-level section."""

    inner: Inner
    note: str = ""


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, "inner: Field required"),
        ({"inner": {"least": "few"}}, "inner.least: Input should be a valid integer, unable to parse string as an "
         "integer, got 'few'"),
        ({"inner": {"least": 1}, "nots": 2}, "unknown key nots; did you mean 'note'?"),
        ({"inner": {"least": 1, "of_elment": "C"}}, "unknown key inner.of_elment; did you mean 'of_element'?"),
        ({"inner": {"least": 1, "xyz": 1}}, "unknown key inner.xyz; known: least, of_element"),
        ({"inner": {}, "note": 3}, "inner.least: Field required; note: Input should be a valid string, got 3"),
        ({"inner": {"least": 1}, "note": ["x" * 999]}, f"note: Input should be a valid string, got ['{'x' * 198}"),
    ],
)  # fmt: skip
def test_each_fault_is_explained_in_one_line(content: object, says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Outer.model_validate(content)
    assert explain(refused.value, Outer) == says


def test_the_nearest_known_name_or_all_of_them() -> None:
    assert did_you_mean("enegy", ["forces", "energy", "energies"]) == "; did you mean 'energy'?"
    assert did_you_mean(3, ["b", "a"]) == "; known: a, b"


def test_a_file_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadParams) as refused:
        load_yaml(tmp_path / "gone.yaml")
    said = f"{tmp_path / 'gone.yaml'}: no such file; run the command in the project root, where params.yaml is"
    assert str(refused.value) == said
