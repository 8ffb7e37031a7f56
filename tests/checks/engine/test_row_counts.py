"""Row counts merged over parts: the counts are exact, and the examples kept are the worst rows overall."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrogate.checks.data.dataset import concatenate
from hydrogate.checks.engine.bounds import Limits
from hydrogate.checks.engine.row_counts import BLOCK, EXAMPLES, Example, Rows, Tally
from hydrogate.checks.engine.waiver import Waiver

LIMITS = Limits(-1.0, 1.0, warn_max=0.5)


def tally(values: list[float], limits: Limits = LIMITS, first: int = 0, holds: bool = True) -> Tally:
    rows = Rows(np.array(values, dtype=float), lambda row: f"row {first + row}", noun="bonds")
    return Tally.of(rows, limits, holds)


def test_a_tally_by_hand() -> None:
    found = tally([0.0, 3.0, 0.7, np.nan, -2.5, np.inf, 0.5])
    assert (found.n, found.noun, found.least, found.greatest, found.holds) == (7, "bonds", -2.5, 3.0, True)
    assert (found.bad.n, found.doubtful.n) == (4, 5)
    assert found.bad.texts == ("row 3", "row 5", "row 1", "row 4")
    assert found.bad.worst[1:] == (
        Example(np.inf, np.inf, "row 5"),
        Example(2.0, 3.0, "row 1"),
        Example(1.5, -2.5, "row 4"),
        Example(pytest.approx(-0.3), 0.7, ""),
    )
    assert found.doubtful.texts == ("row 3", "row 5", "row 1", "row 4", "row 2")


def test_without_a_warning_the_doubtful_are_the_bad() -> None:
    found = tally([0.0, 3.0], Limits(max=1.0))
    assert found.doubtful == found.bad
    assert found.bad.n == 1


def test_no_rows_and_no_finite_ones() -> None:
    assert (tally([]).least, tally([]).greatest, tally([]).bad.n, tally([]).bad.worst) == (np.inf, -np.inf, 0, ())
    assert (tally([np.nan]).least, tally([np.nan]).greatest, tally([np.nan]).bad.n) == (np.inf, -np.inf, 1)


def test_where_nothing_is_bounded_only_the_undefined_is_bad() -> None:
    found = tally([5.0, np.nan, -7.0], Limits())
    assert (found.bad.n, found.bad.texts) == (1, ("row 1",))


@settings(deadline=None)
@given(st.lists(st.sampled_from([-3.0, -1.0, 0.0, 0.5, 0.75, 1.0, 2.0, 9.0]), max_size=30), st.integers(0, 30))
def test_parts_merge_to_the_whole(values: list[float], cut: int) -> None:
    one, two = tally(values[:cut]), tally(values[cut:], first=len(values[:cut]))
    merged, whole = one.merge(two), tally(values)
    assert merged == whole


def test_pandera_must_hold_for_every_part() -> None:
    assert tally([0.0]).merge(tally([0.0])).holds
    assert not tally([0.0], holds=False).merge(tally([0.0])).holds
    assert not tally([0.0]).merge(tally([0.0], holds=False)).holds


@pytest.mark.parametrize("rows", [4 * BLOCK, 5 * BLOCK, 5 * BLOCK + 7, 9 * BLOCK + 1])
def test_of_many_rows_the_worst_are_found(rows: int) -> None:
    values = np.random.default_rng(rows).normal(size=rows)
    values[-1], values[BLOCK - 1], values[BLOCK] = 30.0, 29.0, 29.0
    order = np.argsort(-values, kind="stable")[:EXAMPLES]
    assert tally(list(values), Limits(max=-9.0)).bad.texts == tuple(f"row {row}" for row in order)
    assert tally([2.0] * rows, Limits(max=1.0)).bad.texts == tuple(f"row {row}" for row in range(EXAMPLES))


def test_what_waivers_cover_is_counted_apart() -> None:
    data = replace(concatenate([molecule("H2O") for _ in range(9)]), source=np.array(["old.sdf"] * 7 + ["new.sdf"] * 2))
    signed = {"contract": "structures", "check": "c", "reason": "r", "author": "a", "expires": "2999-12-31"}
    of_old, of_none = (Waiver.model_validate({**signed, "pattern": name}) for name in ("old*", "none*"))
    owner = np.array([0, 0, 1, 2, 3, 4, 5, 6, 7, 8])
    rows = Rows(np.array([9.0, 2.0, 3.0, 0.0, 4.0, 5.0, 6.0, 7.0, 8.0, 0.5]), lambda row: f"row {row}", owner, "bonds")
    found = Tally.of(rows, Limits(max=1.0), data=data, waivers=[of_old, of_none])
    assert found.waived == {of_old: 7}
    assert found.known == ("row 0", "row 1", "row 2", "row 4", "row 5")
    assert found.rest is not None
    assert (found.n, found.bad.n, found.rest.n, found.rest.bad.n) == (10, 8, 3, 1)
    assert (found.rest.noun, found.rest.bad.texts, found.rest.greatest) == ("bonds", ("row 8",), 8.0)
    both = found.merge(found)
    assert both.rest is not None
    assert (both.waived, both.known, both.rest.n) == ({of_old: 14}, found.known, 6)
    assert both.of_noun("angles").rest.noun == "angles"  # type: ignore[union-attr]
    assert found.merge(tally([0.0])).waived == tally([0.0]).merge(found).waived == {of_old: 7}
    assert found.merge(tally([0.0])).rest == tally([0.0]).merge(found).rest == found.rest
    assert tally([0.0]).of_noun("angles").rest is None
    assert Tally.of(rows, Limits(max=1.0), data=data).rest is None
