"""Great Expectations: not-null and range expectations for each column, as in its first tutorial."""

import os

from hydrogate.checks.data.dataset import Dataset
from studies.validators._tables import RANGES, tables

SOURCE = "https://docs.greatexpectations.io/en/latest/tutorials/getting_started.html"


def complaints(data: Dataset) -> list[str]:
    """Return the expectations that fail."""
    # Turns telemetry off; Great Expectations reads this when it is imported.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations import expectations as gxe

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]  # it accepts a plain dict
    source = context.data_sources.add_pandas("data_set")
    found = []
    for table, columns in tables(data).items():
        batch = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe("all")
        suite = context.suites.add(gx.ExpectationSuite(name=table))
        for name in columns:
            low, high = RANGES[name]
            suite.add_expectation(gxe.ExpectColumnValuesToNotBeNull(column=name))
            suite.add_expectation(gxe.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high))
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=table, data=batch, suite=suite))
        for item in definition.run(batch_parameters={"dataframe": columns}).results:
            config = item.expectation_config
            if not item.success and config is not None:
                found.append(f"{table}: {config.kwargs['column']}: {config.type}")
    return found
