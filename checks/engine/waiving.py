"""Waiving: known findings of legacy data become warnings, until a date, for a reason that somebody signs.

Whatever else the same check finds fails as before, and so does a waiver that has expired.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from hydrogate.checks.engine.bounds import Bounds
from hydrogate.checks.engine.judge import judged
from hydrogate.checks.engine.registry import Measurement, Quantities, Rule
from hydrogate.checks.engine.row_counts import EXAMPLES
from hydrogate.checks.engine.waiver import Waiver
from hydrogate.checks.findings import Finding, Severity, Verdict


def waive(
    rule: Rule, bounds: Bounds, finding: Finding, measurement: Measurement, waivers: Sequence[Waiver]
) -> tuple[Finding, tuple[Waiver, ...]]:
    """The finding with what ``waivers`` know taken for a warning, and the waivers that had something to waive.

    Parameters
    ----------
    rule, bounds : Rule, Bounds
    finding : Finding
        What the rule found in ``measurement``.
    measurement : Tally or Quantities
        A tally knows which of its rows the waivers cover.
    waivers : sequence of Waiver
        Those of this check and of this data set that have not expired.
    """
    if finding.verdict is not Verdict.FAIL or not waivers:
        return finding, ()
    if isinstance(measurement, Quantities):
        whole = tuple(waiver for waiver in waivers if not waiver.names_structures)
        return (_warned(finding, whole) if whole else finding), whole
    used = tuple(waiver for waiver in waivers if waiver in measurement.waived)
    if not used or measurement.rest is None:
        return finding, ()
    new = measurement.rest.bad.n
    known = measurement.bad.n - new
    if not new:
        return replace(_warned(finding, used), n_bad=known, examples=measurement.known), used
    left = judged(rule, bounds, measurement.rest)
    message = f"{left.message} {known} further ones are waived: {'; '.join(map(str, used))}."
    return replace(left, n=finding.n, message=message), used


def _warned(finding: Finding, used: Sequence[Waiver]) -> Finding:
    message = f"{finding.message} waived: {'; '.join(map(str, used))}."
    return replace(finding, severity=Severity.WARN, message=message)


def finding_of_waivers(
    contract: str, waivers: Sequence[Waiver], used: Sequence[Waiver], fingerprint: str, today: date
) -> Finding | None:
    """What is to be said of the waivers themselves: an expired one refuses, one without an effect is a warning.

    Parameters
    ----------
    contract : str
    waivers : sequence of Waiver
        All those of ``contract``.
    used : sequence of Waiver
        Those that had something to waive.
    fingerprint : str
        Of what was judged.
    today : date
    """
    expired = [waiver for waiver in waivers if waiver.expires < today]
    idle = [waiver for waiver in waivers if waiver not in expired and waiver not in used]
    told = [f"{waiver.whose()} has expired" for waiver in expired]
    told += [f"{waiver.whose()} has nothing to waive" for waiver in idle]
    if not told:
        return None
    whole = f" A check of the data set as a whole is waived by its fingerprint, here {fingerprint}." if idle else ""
    return Finding(
        contract=contract,
        check="waivers",
        verdict=Verdict.FAIL,
        severity=Severity.ERROR if expired else Severity.WARN,
        message=f"{'; '.join(told[:EXAMPLES])}.{whole}",
        remedy="Mend the data, renew the waiver with its reason, or take it out of contracts.waivers.",
        n=len(waivers),
        n_bad=len(told),
        reason="what is let pass for ever is no longer a contract",
        source="contracts.waivers",
    )
