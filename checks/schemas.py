"""The pandera side of the declaration: polars tables of atoms and structures, and the schemas compiled for them.

Eager frames alone: on a LazyFrame pandera looks at the schema and not at the values. Pandera says whether a rule
holds and shows samples; exact counts are the judge's own.
"""

import os
from collections.abc import Mapping

import numpy as np
import polars as pl

from hydrogate.checks.bounds import Limits
from hydrogate.checks.dataset import Dataset
from hydrogate.checks.declared import BadParams
from hydrogate.checks.tally import Rows

SAMPLES = 20
Key = tuple[str, int]


def atom_table(data: Dataset) -> pl.DataFrame:
    """One row an atom: ``atomic_number``, ``pos_x`` … in Å, ``force_x`` … in eV/Å where there are forces.

    No two names differ by case only: Great Expectations folds the case of column names.
    """
    columns: dict[str, np.ndarray] = {"atomic_number": data.numbers}
    for prefix, values in (("pos", data.positions), ("force", data.forces)):
        if values is not None:
            columns |= {f"{prefix}_{axis}": values[:, k] for k, axis in enumerate("xyz")}
    return pl.DataFrame(columns)


def holding(data: Dataset, rows: Mapping[Key, Rows], limits: Mapping[str, Limits]) -> dict[Key, bool]:
    """Whether pandera lets each of ``rows`` of one part pass, by check and number; of ``finite`` its atoms too."""
    names = {f"{check}_{number}": (check, number) for check, number in rows}
    filled = {name: rows[key] for name, key in names.items() if len(rows[key].values)}
    limits_of = {name: limits[names[name][0]] for name in filled}
    failing = failing_checks(structure_table(filled, limits_of, len(data)), limits_of)
    verdicts = {key: name not in failing for name, key in names.items()}
    if verdicts.get(("finite", 0)) and failing_atoms(atom_table(data)):
        verdicts["finite", 0] = False
    return verdicts


def structure_table(rows: Mapping[str, Rows], limits: Mapping[str, Limits], n_structures: int) -> pl.DataFrame:
    """One row a structure: the least and the greatest value of each check, where it has a bound on that side."""
    columns: dict[str, pl.Series] = {}
    # A check that finds a structure too many has more rows than there are structures.
    height = max([n_structures, *(len(m.values) for m in rows.values() if m.structure is None)])
    for name, measured in rows.items():
        values = np.asarray(measured.values, dtype=np.float64)
        owner = np.arange(len(values)) if measured.structure is None else measured.structure
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        for side, reduce, bound in (("min", np.minimum, limits[name].min), ("max", np.maximum, limits[name].max)):
            if bound is None:
                continue
            empty = pl.Series(f"{name}_{side}", [None], dtype=pl.Float64).new_from_index(0, height)
            columns[empty.name] = empty.scatter(owner[first], reduce.reduceat(values, first))
    return pl.DataFrame(columns)


def failing_checks(table: pl.DataFrame, limits: Mapping[str, Limits]) -> set[str]:
    """The checks for which pandera refuses the structure table."""
    import pandera.polars as pa

    _refuse_disabled_pandera()
    bounds = {
        f"{name}_{side}": (name, side, bound)
        for name, limit in limits.items()
        for side, bound in (("min", limit.min), ("max", limit.max))
        if bound is not None
    }
    # All at once; one by one only where something is refused.
    if not _failures(_together(table, [_within(*of).fill_null(True) for of in bounds.values()]), table):
        return set()
    schema = pa.DataFrameSchema(
        {column: pa.Column(pl.Float64, _check(column, _within(*of)), nullable=True) for column, of in bounds.items()},
        strict=True,
    )
    return {column.removesuffix("_min").removesuffix("_max") for column in _failures(schema, table)}


def failing_atoms(table: pl.DataFrame) -> set[str]:
    """The columns of the atom table that pandera refuses: values that are not finite, numbers of no element."""
    import pandera.polars as pa

    _refuse_disabled_pandera()
    holds = {name: pl.col(name).is_finite() for name in table.columns if name != "atomic_number"}
    holds["atomic_number"] = pl.col("atomic_number").is_between(1, 118)
    if not _failures(_together(table, list(holds.values())), table):
        return set()
    columns = {name: pa.Column(table.schema[name], _check(name, holds[name])) for name in table.columns}
    return _failures(pa.DataFrameSchema(columns, strict=True), table)


def _within(name: str, side: str, bound: float) -> pl.Expr:
    column = pl.col(f"{name}_{side}")
    # polars orders NaN above every number, so that NaN would pass a lower bound.
    return column.is_not_nan() & ((column >= bound) if side == "min" else (column <= bound))


def _check(name: str, holds: pl.Expr):  # type: ignore[no-untyped-def]
    import pandera.polars as pa

    return pa.Check(lambda data: data.lazyframe.select(holds), name=name, n_failure_cases=SAMPLES)


def _together(table: pl.DataFrame, holds: list[pl.Expr]):  # type: ignore[no-untyped-def]
    """A schema of the columns of ``table`` with one check: all of ``holds`` in each row."""
    import pandera.polars as pa

    columns = {name: pa.Column(kind, nullable=True) for name, kind in table.schema.items()}
    every = pl.all_horizontal(holds) if holds else pl.lit(True)
    return pa.DataFrameSchema(columns, checks=_check("all", every), strict=True)


def _failures(schema, table: pl.DataFrame) -> set[str]:  # type: ignore[no-untyped-def]
    """The columns that ``schema`` refuses."""
    import pandera.errors

    try:
        schema.validate(table, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        return {str(error.schema.name) for error in errors.schema_errors}
    return set()


def _refuse_disabled_pandera() -> None:
    value = os.environ.get("PANDERA_VALIDATION_ENABLED", "true")
    if value not in ("true", "True", "1"):
        raise BadParams(
            f"PANDERA_VALIDATION_ENABLED={value!r} switches pandera's validation off; unset it, or set it to true"
        )
