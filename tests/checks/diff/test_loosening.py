"""Effect of one changed value of a declaration: looser, unclear or not looser."""

import math
from typing import Any

import pytest

from hydrogate.checks.diff.loosening import Effect, effect_of, text_of

LOOSER, UNCLEAR, NOT_LOOSER = Effect.LOOSER, Effect.UNCLEAR, Effect.NOT_LOOSER


@pytest.mark.parametrize(
    ("key", "tight", "loose", "looser", "tighter"),
    [
        ("max", 1, 2, "bound loosened", "bound tightened"),
        ("warn_max", 1.0, 1.5, "bound loosened", "bound tightened"),
        ("min", 0.3, 0.2, "bound loosened", "bound tightened"),
        ("warn_min", 0, -1, "bound loosened", "bound tightened"),
        ("min", 0.3, None, "bound loosened", "bound tightened"),
        ("warn_max", 5, None, "bound loosened", "bound tightened"),
        ("enabled", True, False, "check switched off", "check switched on"),
        ("severity", "error", "warn", "severity lowered to warn", "severity raised to error"),
        ("required", True, False, "gate no longer required", "gate now required"),
        ("confidence", 0.95, 0, "confidence lowered", "confidence raised"),
        ("min_n", 100, 20, "min_n lowered", "min_n raised"),
        ("one_sided", False, True, "gate judged by one interval end", "gate judged by both interval ends"),
        ("gated", True, False, "band no longer requires the gates", "band now requires the gates"),
        ("frozen", False, True, "stage frozen", "stage unfrozen"),
        ("reason", "why", "", "reason emptied", "reason given"),
        ("origin", "whence", None, "origin emptied", "origin given"),
        ("origin", "whence", "  ", "origin emptied", "origin given"),
        *((key, 2, 3, "setting loosened", "setting tightened") for key in
          ("max_perception_failures", "min_perceptions", "min_carbons_of_bare", "min_atoms", "standard_errors",
           "tolerance")),
        *((key, 3, 2, "setting loosened", "setting tightened") for key in
          ("min_bonds", "min_pairs", "min_structures_per_rank", "structures", "molecules", "atoms")),
        *((key, False, True, "setting loosened", "setting tightened") for key in
          ("may_be_absent", "may_be_alone", "may_be_radical", "too_few_only_warn")),
    ],
)  # fmt: skip
def test_one_way_is_looser_and_the_other_is_not(key: str, tight: Any, loose: Any, looser: str, tighter: str) -> None:
    assert effect_of(key, tight, loose) == (LOOSER, looser)
    assert effect_of(key, loose, tight) == (NOT_LOOSER, tighter)


@pytest.mark.parametrize(
    ("key", "old", "new", "effect", "what"),
    [
        ("seed", 0, 1, UNCLEAR, "setting changed"),
        ("seed", True, False, UNCLEAR, "setting changed"),
        ("max", "a", 2, UNCLEAR, "bound changed"),
        ("max", True, 2, UNCLEAR, "bound changed"),
        ("max", 1.0, math.nan, UNCLEAR, "bound changed"),
        ("atoms", None, 3, UNCLEAR, "setting changed"),
        ("severity", "error", "fatal", UNCLEAR, "setting changed"),
        ("reason", "one", "another", NOT_LOOSER, "reason reworded"),
        ("origin", "one", "another", NOT_LOOSER, "origin reworded"),
        *((key, "a", "b", NOT_LOOSER, f"{key} changed") for key in ("command", "status", "advice")),
    ],
)
def test_what_cannot_be_told_may_have_loosened_and_words_have_not(
    key: str, old: Any, new: Any, effect: Effect, what: str
) -> None:
    assert effect_of(key, old, new) == (effect, what)


def test_values_in_one_line() -> None:
    assert text_of("°C") == "°C"
    assert text_of({"b": 1, "a": "Å"}) == '{"a": "Å", "b": 1}'
    assert text_of(None) == "null"
    assert text_of(1.5j) == '"1.5j"'
