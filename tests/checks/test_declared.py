"""Declarations that were made to harm, or that say what YAML would drop: refused by name, and quickly."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from hydrogate.checks.declared import BadParams, load_yaml, parse_yaml

LETTERS = "abcdefghijkl"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(9 * ['*' + before])}]\n" for before, name in pairwise(LETTERS)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "more than 100000 values"),
        (BOMB + "contracts: {labels: {force_rms: {max: *l}}}", "more than 100000 values"),
        ("contracts: &a {labels: *a}", "holds itself by an alias"),
        ("contracts: &a [*a]", "holds itself by an alias"),
        ("contracts: {labels: 1}\ncontracts: {labels: 2}", "the key 'contracts' twice"),
        ("contracts: {labels: {max: 5, max: 6}}", r"the key 'max' twice[\s\S]*line 1, column 30"),
        ("contracts: !!python/object/apply:os.system [exit]", "could not determine a constructor"),
        ("contracts: !mine x", "could not determine a constructor"),
        ("contracts: " + "[" * 100_000, "recursion"),
        ("contracts: " + "{a: " * 3000 + "1" + "}" * 3000, "recursion"),
        ("contracts: " + "9" * 5000, "Exceeds the limit"),
        ("contracts: 2026-13-45", "month must be in"),
        ("contracts: {}\n---\ncontracts: {}", "expected a single document"),
        ("contracts: \0", "special characters are not allowed"),
        ("contracts:\n\tlabels: 1", "cannot start any token"),
        ("[1, 2]", "holds a list, expected a mapping"),
        ("", "holds a NoneType, expected a mapping"),
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
