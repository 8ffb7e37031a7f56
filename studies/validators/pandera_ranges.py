"""pandera: generous ranges for each column of atoms and structures, as in its documentation of checks."""

from hydrogate.checks.data.dataset import Dataset
from studies.validators._tables import RANGES, tables

SOURCE = "https://pandera.readthedocs.io/en/latest/checks.html"


def complaints(data: Dataset) -> list[str]:
    """Return the columns with values out of range or missing values."""
    import pandera.pandas as pa

    found = []
    for table, columns in tables(data).items():
        schema = pa.DataFrameSchema({name: pa.Column(checks=pa.Check.in_range(*RANGES[name])) for name in columns})
        try:
            schema.validate(columns, lazy=True)
        except pa.errors.SchemaErrors as errors:
            found += sorted({f"{table}: {error.schema.name}: {error.reason_code}" for error in errors.schema_errors})
    return found
