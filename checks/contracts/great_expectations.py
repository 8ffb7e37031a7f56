"""The Great Expectations side of the declaration: what was measured, judged again with the same bounds, and its pages.

The one home of great_expectations; it takes seconds to import, so it is imported inside the function.
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
"""An expectation: column, interval (none: that there is a value), and what else goes with it."""


def gx_verdicts(measured: Mapping[str, Quantities], declared: Mapping[str, Bounds]) -> dict[str, bool]:
    """Whether each check's quantities are within bounds, as Great Expectations sees a one-row table of them.

    Raises
    ------
    RuntimeError
        The engine evaluated another number of expectations than were declared (an expectation that is not known
        to it is passed over without a word).
    """
    columns = {(check, name): float(value) for check, m in measured.items() for name, value in m.values.items()}
    if not columns:
        return {}
    table = {_label(*key): value for key, value in columns.items()}
    if len(table) < len(columns):
        raise RuntimeError("two quantities share a name")
    expectations = [item for key in columns for item in _expectations(*key, declared[key[0]])]
    _, result = _validated("contract", table, expectations)
    verdicts = dict.fromkeys(measured, True)
    for item in result.results:
        verdicts[item.expectation_config.meta["rule_id"]] &= bool(item.success)
    return verdicts


def data_docs(report: Report, declared: Mapping[str, Bounds]) -> dict[str, str]:
    """The Data Docs of ``report``: HTML by file name, readable offline. Run times and identifiers differ every time.

    ``index.html`` says what held, ``expectations.html`` what was asked. A check that judges structure by structure is
    shown by its worst value, which is within bounds where all are; what could not be judged is named in the notes.

    Parameters
    ----------
    report : Report
    declared : mapping of str to Bounds
        Those that ``report`` was judged by.
    """
    findings = [f for f in report.findings if f.verdict in (Verdict.PASS, Verdict.FAIL) and _declared(f, declared)]
    table: dict[str, float] = {}
    expectations: list[_Asked] = []
    for finding in findings:
        bounds = declared[finding.check]
        for name in finding.allowed:
            quantity = _quantity(name)
            # A value that is not finite is left out of `observed`; here it is a null, which fails.
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

    # Great Expectations leaves these without types.
    renderers: dict[str, tuple[Any, Any]] = {
        "index.html": (ValidationResultsPageRenderer(), result),
        "expectations.html": (ExpectationSuitePageRenderer(), suite),
    }
    view: Any = DefaultJinjaPageView()
    return {name: offline(view.render(renderer.render(what))) for name, (renderer, what) in renderers.items()}


def _quantity(name: str) -> str:
    return "" if name in ("value", "worst") else name


def _declared(finding: Finding, declared: Mapping[str, Bounds]) -> bool:
    """Whether each quantity has a bound; findings in git may be older than the bounds."""
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
    # NaN passes a range in Great Expectations, so that not-null stands beside each.
    yield column, None, {**more, "notes": None}
    if limits.min is not None or limits.max is not None:
        yield column, limits, more
    if finding is not None and limits.warns:
        yield column, limits.as_warning(), {**more, "severity": "warning"}


def _why(finding: Finding) -> list[str]:
    """Why the bound stands and what to do, as Markdown."""
    told = {
        "Why": finding.reason,
        "Declared by": finding.source,
        "Judged": f"{finding.n}, of which {finding.n_bad} outside",
        "Remedy": finding.remedy,
    }
    return [f"**{name}:** {_plain(text)}" for name, text in told.items() if text]


def _plain(text: str) -> str:
    """``text`` as Markdown that says just that; Great Expectations escapes for HTML by itself."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def _notes(report: Report, shown: Sequence[Finding]) -> Iterator[str]:
    yield f"**Profile** {_plain(report.profile)}, **data** {_plain(report.fingerprint)}"
    for finding in report.findings:
        if finding not in shown:
            yield f"**{_plain(finding.check)}** is not shown here: {_plain(finding.message)}"
    for name in report.switched_off:
        yield f"**{_plain(name)}** is switched off in the parameters"


def _validated(
    name: str,
    table: Mapping[str, float],
    expectations: Sequence[_Asked],
    notes: list[str] | None = None,
) -> tuple[Any, Any]:
    """The suite of ``expectations`` and its result on the one row of ``table``."""
    # Read by Great Expectations when it is imported: no telemetry.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    import pandas as pd
    from great_expectations import expectations as gxe

    if len({label.lower() for label in table}) != len(table):
        raise RuntimeError("two quantities differ by case only, which Great Expectations reads as one column")
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]  # a plain dict is what it takes
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
            # Of one row; unlike the expectation of values, that of the maximum shows what was observed.
            suite.add_expectation(
                gxe.ExpectColumnMaxToBeBetween(column=column, min_value=limits.min, max_value=limits.max, **more)
            )
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    frame = pd.DataFrame({column: [value] for column, value in table.items()})
    result = definition.run(batch_parameters={"dataframe": frame})
    if len(result.results) != len(expectations):
        raise RuntimeError(f"{len(expectations)} expectations declared, {len(result.results)} evaluated")
    return suite, result
