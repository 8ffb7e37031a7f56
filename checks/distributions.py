"""The Great Expectations side of the declaration: the quantities of a data set, judged again, with the same bounds.

The one home of great_expectations; it takes seconds to import, so it is imported inside the function.
"""

import os
from collections.abc import Mapping

from hydrogate.checks.bounds import Bounds
from hydrogate.checks.judge import limits_of
from hydrogate.checks.rules import Quantities


def gx_verdicts(measured: Mapping[str, Quantities], declared: Mapping[str, Bounds]) -> dict[str, bool]:
    """Whether each check's quantities are within bounds, as Great Expectations sees a one-row table of them.

    Raises
    ------
    RuntimeError
        The engine evaluated another number of expectations than were declared (an expectation that is not known
        to it is passed over without a word).
    """
    # Read by Great Expectations when it is imported: no telemetry.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    import pandas as pd
    from great_expectations import expectations as gxe

    columns = {(check, name): value for check, m in measured.items() for name, value in m.values.items()}
    if not columns:
        return {}
    labels = {key: f"{key[0]}__{key[1]}" if key[1] else key[0] for key in columns}
    if len({label.lower() for label in labels.values()}) != len(labels):
        raise RuntimeError("two quantities differ by case only, which Great Expectations reads as one column")
    table = pd.DataFrame({labels[key]: [float(value)] for key, value in columns.items()})
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]  # a plain dict is what it takes
    batch = (
        context.data_sources.add_pandas("hydrogate")
        .add_dataframe_asset("data_set")
        .add_batch_definition_whole_dataframe("all")
    )
    suite = context.suites.add(gx.ExpectationSuite(name="contract"))
    for key, label in labels.items():
        limits = limits_of(key[1], declared[key[0]])
        meta = {"rule_id": key[0], "notes": declared[key[0]].reason}
        # NaN passes a range in Great Expectations, so that not-null stands beside each.
        suite.add_expectation(gxe.ExpectColumnValuesToNotBeNull(column=label, meta=meta))
        if limits.min is not None or limits.max is not None:
            suite.add_expectation(
                gxe.ExpectColumnValuesToBeBetween(column=label, min_value=limits.min, max_value=limits.max, meta=meta)
            )
    definition = context.validation_definitions.add(gx.ValidationDefinition(name="contract", data=batch, suite=suite))
    result = definition.run(batch_parameters={"dataframe": table})
    if len(result.results) != len(suite.expectations):
        raise RuntimeError(f"{len(suite.expectations)} expectations declared, {len(result.results)} evaluated")
    verdicts = dict.fromkeys(measured, True)
    for item in result.results:
        configuration = item.expectation_config
        assert configuration is not None
        verdicts[(configuration.meta or {})["rule_id"]] &= bool(item.success)
    return verdicts
