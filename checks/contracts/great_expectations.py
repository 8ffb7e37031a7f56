"""Great Expectations: evaluate the measured values again with the same bounds, and render Data Docs.

Only this module imports great_expectations. The import takes seconds, so it is inside a function.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from hydrogate.checks.contracts.offline_html import offline
from hydrogate.checks.engine.bounds import Bounds, Limits
from hydrogate.checks.engine.judge import limits_of
from hydrogate.checks.engine.registry import Quantities
from hydrogate.checks.findings import Finding, Report, Severity, Verdict

_Asked: TypeAlias = tuple[str, Limits | None, dict[str, Any]]
"""An expectation: column, interval (None: the value must not be null) and further keyword arguments."""


def gx_verdicts(measured: Mapping[str, Quantities], declared: Mapping[str, Bounds]) -> dict[str, bool]:
    """Return for each check if its quantities are within bounds, by Great Expectations on a one-row table.

    Raises
    ------
    RuntimeError
        The number of evaluated expectations differs from the number declared (Great Expectations silently ignores
        expectations that it does not know).
    """
    columns = {(check, name): float(value) for check, m in measured.items() for name, value in m.values.items()}
    if not columns:
        return {}
    table = {_label(*key): value for key, value in columns.items()}
    if len(table) < len(columns):
        raise RuntimeError("two quantities have the same name")
    expectations = [item for key in columns for item in _expectations(*key, declared[key[0]])]
    _, result = _validated("contract", table, expectations)
    verdicts = dict.fromkeys(measured, True)
    for item in result.results:
        verdicts[item.expectation_config.meta["rule_id"]] &= bool(item.success)
    return verdicts


def data_docs(report: Report, declared: Mapping[str, Bounds]) -> dict[str, str]:
    """Return the Data Docs of ``report``: HTML by file name, readable offline.

    Run times and identifiers differ on every call. ``index.html`` has the results, ``expectations.html`` the bounds. A
    check per structure is shown by its worst value, which is within bounds if all values are. Checks without a verdict
    are listed in the notes.

    Parameters
    ----------
    report : Report
    declared : mapping of str to Bounds
        Bounds that were used for ``report``.
    """
    findings = [f for f in report.findings if f.verdict in (Verdict.PASS, Verdict.FAIL) and _declared(f, declared)]
    table: dict[str, float] = {}
    expectations: list[_Asked] = []
    for finding in findings:
        bounds = declared[finding.check]
        for name in finding.allowed:
            quantity = _quantity(name)
            # `observed` omits non-finite values; here such a value is null, which fails.
            table[_label(finding.check, quantity)] = finding.observed.get(name, math.nan)
            expectations += _expectations(finding.check, quantity, bounds, finding)
    suite, result = _validated(f"contract {report.contract}", table, expectations, list(_notes(report, findings)))
    for item in result.results:
        if item.result.get("observed_value") is not None:
            # Great Expectations 1.24 cannot print the scalars of NumPy 2.
            item.result["observed_value"] = float(item.result["observed_value"])
    from great_expectations.render.renderer.page_renderer import (
        ExpectationSuitePageRenderer,
        ValidationResultsPageRenderer,
    )
    from great_expectations.render.view import DefaultJinjaPageView

    # Great Expectations has no type annotations for these.
    renderers: dict[str, tuple[Any, Any]] = {
        "index.html": (ValidationResultsPageRenderer(), result),
        "expectations.html": (ExpectationSuitePageRenderer(), suite),
    }
    view: Any = DefaultJinjaPageView()
    return {name: offline(view.render(renderer.render(what))) for name, (renderer, what) in renderers.items()}


def _quantity(name: str) -> str:
    return "" if name in ("value", "worst") else name


def _declared(finding: Finding, declared: Mapping[str, Bounds]) -> bool:
    """Return True if each quantity has a bound; findings stored in git may be older than the bounds."""
    limits = declared[finding.check].limits if finding.check in declared else {}
    return "other" in limits or "" in limits or {_quantity(name) for name in finding.allowed} <= set(limits)


def _label(check: str, quantity: str) -> str:
    return f"{check}__{quantity}" if quantity else check


def _expectations(check: str, quantity: str, bounds: Bounds, finding: Finding | None = None) -> Iterator[_Asked]:
    limits, column = limits_of(quantity, bounds), _label(check, quantity)
    severity = bounds.severity if finding is None else finding.severity
    more = {
        "meta": {"rule_id": check},
        "notes": [_plain(bounds.reason)] if finding is None else _why(finding),
        "severity": "critical" if severity is Severity.ERROR else "warning",
    }
    # NaN passes a range expectation in Great Expectations, so a not-null expectation is added to each.
    yield column, None, {**more, "notes": None}
    if limits.min is not None or limits.max is not None:
        yield column, limits, more
    if finding is not None and limits.warns:
        yield column, limits.as_warning(), {**more, "severity": "warning"}


def _why(finding: Finding) -> list[str]:
    """Return the reason for the bound, the counts and the remedy, as Markdown."""
    told = {
        "Why": finding.reason,
        "Declared by": finding.source,
        "Checked": f"{finding.n}, of which {finding.n_bad} outside",
        "Remedy": finding.remedy,
    }
    return [f"**{name}:** {_plain(text)}" for name, text in told.items() if text]


def _plain(text: str) -> str:
    """Escape ``text`` for Markdown; Great Expectations escapes it for HTML itself."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def _notes(report: Report, shown: Sequence[Finding]) -> Iterator[str]:
    yield f"**Profile** {_plain(report.profile)}, **data** {_plain(report.fingerprint)}"
    for finding in report.findings:
        if finding not in shown:
            yield f"**{_plain(finding.check)}** is not shown here: {_plain(finding.message)}"
    for name in report.switched_off:
        yield f"**{_plain(name)}** is disabled in the parameters"


def _validated(
    name: str,
    table: Mapping[str, float],
    expectations: Sequence[_Asked],
    notes: list[str] | None = None,
) -> tuple[Any, Any]:
    """Return the suite of ``expectations`` and its result on ``table``, which has one row."""
    # Great Expectations reads this when it is imported: disable telemetry.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    import pandas as pd
    from great_expectations import expectations as gxe

    if len({label.lower() for label in table}) != len(table):
        raise RuntimeError("two quantities differ only in case, which Great Expectations reads as one column")
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]  # it accepts a plain dict
    batch = (
        context.data_sources.add_pandas("hydrogate")
        .add_dataframe_asset("data_set")
        .add_batch_definition_whole_dataframe("all")
    )
    suite = context.suites.add(gx.ExpectationSuite(name=name, notes=notes))
    for column, limits, more in expectations:
        if limits is None:
            suite.add_expectation(gxe.ExpectColumnValuesToNotBeNull(column=column, **more))
        else:
            # The table has one row. Unlike the expectation on values, the one on the maximum shows the observed value.
            suite.add_expectation(
                gxe.ExpectColumnMaxToBeBetween(column=column, min_value=limits.min, max_value=limits.max, **more)
            )
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    frame = pd.DataFrame({column: [value] for column, value in table.items()})
    result = definition.run(batch_parameters={"dataframe": frame})
    if len(result.results) != len(expectations):
        raise RuntimeError(f"{len(expectations)} expectations declared, {len(result.results)} evaluated")
    return suite, result
