"""Row checks with pandera: polars tables of structures and atoms, and the schemas that validate them.

Only eager frames are used: on a LazyFrame pandera validates the schema but not the values. Pandera decides if a check
passes; counts and examples come from :mod:`hydrogate.checks.engine.judge`.
"""

import os
from collections.abc import Mapping
from functools import partial

import numpy as np
import polars as pl

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.engine.bounds import Limits
from hydrogate.checks.engine.mergeable import runs
from hydrogate.checks.engine.row_counts import Rows
from hydrogate.checks.errors import BadParams

Key = tuple[str, int]


def holding(data: Dataset, rows: Mapping[Key, Rows], limits: Mapping[str, Limits]) -> dict[Key, bool]:
    """Return the pandera verdict on each of ``rows`` of one part, by check and index.

    For ``finite`` the atoms are validated too.
    """
    names = {f"{check}_{number}": (check, number) for check, number in rows}
    filled = {name: rows[key] for name, key in names.items() if len(rows[key].values)}
    limits_of = {name: limits[names[name][0]] for name in filled}
    failing = failing_checks(structure_table(filled, limits_of, len(data)), limits_of)
    verdicts = {key: name not in failing for name, key in names.items()}
    if verdicts.get(("finite", 0)) and failing_atoms(data):
        verdicts["finite", 0] = False
    return verdicts


def structure_table(rows: Mapping[str, Rows], limits: Mapping[str, Limits], n_structures: int) -> pl.DataFrame:
    """Return a table with one row per structure: minimum and maximum of each check, for each side that has a bound."""
    columns: dict[str, pl.Series] = {}
    # A faulty check may return more rows than there are structures.
    height = max([n_structures, *(len(m.values) for m in rows.values() if m.structure is None)])
    for name, measured in rows.items():
        values = np.asarray(measured.values, dtype=np.float64)
        owner = np.arange(len(values)) if measured.structure is None else measured.structure
        first = owner if measured.structure is None else runs(owner)
        for side, reduce, bound in (("min", np.minimum, limits[name].min), ("max", np.maximum, limits[name].max)):
            if bound is None:
                continue
            of_each = values if len(first) == len(values) else reduce.reduceat(values, first)
            column = pl.Series(f"{name}_{side}", of_each)
            if len(first) < height:
                column = (
                    pl.Series(column.name, [None], pl.Float64).new_from_index(0, height).scatter(owner[first], column)
                )
            columns[column.name] = column
    return pl.DataFrame(columns)


def failing_checks(table: pl.DataFrame, limits: Mapping[str, Limits]) -> set[str]:
    """Return the checks for which the structure table fails pandera's validation."""
    holds = {
        f"{name}_{side}": pl.col(f"{name}_{side}").is_between(low, high)
        for name, limit in limits.items()
        for side, low, high in (("min", limit.min, np.inf), ("max", -np.inf, limit.max))
        if low is not None and high is not None
    }
    return {column.removesuffix("_min").removesuffix("_max") for column in _refused(table, holds)}


def failing_atoms(data: Dataset) -> set[str]:
    """Return the atom columns that fail: ``numbers`` outside 1 to 118, non-finite ``positions`` or ``forces``."""
    vectors = {name: values for name in ("positions", "forces") if (values := getattr(data, name)) is not None}
    # In polars NaN is greater than infinity, so this rejects NaN too; is_finite takes four times as long.
    holds = {name: pl.col(name).reshape((-1,)).abs() < np.inf for name in vectors}
    holds["numbers"] = pl.col("numbers").is_between(1, 118)
    return _refused(pl.DataFrame({"numbers": data.numbers, **vectors}), holds)


def _refused(table: pl.DataFrame, holds: Mapping[str, pl.Expr]) -> set[str]:
    """Return the names in ``holds`` whose expression is False in some row of ``table``; null values pass."""
    # One combined check first; separate checks only if it fails.
    together = pl.all_horizontal([pl.lit(True), *(rows.all() for rows in holds.values())])
    return _failing(table, {"all": together}) and _failing(table, holds)


def _failing(table: pl.DataFrame, holds: Mapping[str, pl.Expr]) -> set[str]:
    import pandera.errors
    import pandera.polars as pa

    _refuse_disabled_pandera()
    checks = [pa.Check(partial(_hold, rows=rows), name=name) for name, rows in holds.items()]
    try:
        pa.DataFrameSchema(checks=checks).validate(table, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        return {error.check.name for error in errors.schema_errors}
    return set()


def _hold(data, rows: pl.Expr) -> bool:  # type: ignore[no-untyped-def]
    return bool(data.lazyframe.select(rows.all()).collect().item())


def _refuse_disabled_pandera() -> None:
    value = os.environ.get("PANDERA_VALIDATION_ENABLED", "true")
    if value not in ("true", "True", "1"):
        raise BadParams(
            f"PANDERA_VALIDATION_ENABLED={value!r} disables pandera's validation; unset it, or set it to true"
        )
