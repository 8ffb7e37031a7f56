"""Apply waivers: known findings in legacy data become warnings until an expiry date, with a signed reason.

Any other finding of the same check still fails. A waiver that has expired fails too.
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
    """Return the finding with its waived part reduced to a warning, and the waivers that were applied.

    Parameters
    ----------
    rule, bounds : Rule, Bounds
    finding : Finding
        Finding for ``measurement``.
    measurement : Tally or Quantities
        A tally has counts of the rows that the waivers cover.
    waivers : sequence of Waiver
        Valid waivers for this check and this data set.
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
    message = f"{left.message} {known} more failures are waived: {'; '.join(map(str, used))}."
    return replace(left, n=finding.n, message=message), used


def _warned(finding: Finding, used: Sequence[Waiver]) -> Finding:
    message = f"{finding.message} waived: {'; '.join(map(str, used))}."
    return replace(finding, severity=Severity.WARN, message=message)


def finding_of_waivers(
    contract: str, waivers: Sequence[Waiver], used: Sequence[Waiver], fingerprint: str, today: date
) -> Finding | None:
    """Return a finding on the waivers themselves: an expired waiver fails, a waiver without effect gives a warning.

    Parameters
    ----------
    contract : str
    waivers : sequence of Waiver
        All waivers of ``contract``.
    used : sequence of Waiver
        Waivers that were applied.
    fingerprint : str
        Fingerprint of the data that were checked.
    today : date
    """
    expired = [waiver for waiver in waivers if waiver.expires < today]
    idle = [waiver for waiver in waivers if waiver not in expired and waiver not in used]
    told = [f"{waiver.whose()} has expired" for waiver in expired]
    told += [f"{waiver.whose()} has no effect" for waiver in idle]
    if not told:
        return None
    whole = f" To waive a check on the complete data set, use its fingerprint, here {fingerprint}." if idle else ""
    return Finding(
        contract=contract,
        check="waivers",
        verdict=Verdict.FAIL,
        severity=Severity.ERROR if expired else Severity.WARN,
        message=f"{'; '.join(told[:EXAMPLES])}.{whole}",
        remedy="Fix the data, renew the waiver with its reason, or remove it from contracts.waivers.",
        n=len(waivers),
        n_bad=len(told),
        reason="a permanent exception would make the contract meaningless",
        source="contracts.waivers",
    )
