"""Waivers: known findings of legacy data become warnings, until a date, for a reason that somebody signs.

A waiver names structures by their file (``pattern: "old*.sdf"``) or by file and record as findings print them
(``structures: ["old.sdf record 12"]``); a finding of the data set as a whole by the data's fingerprint. Whatever else
the same check finds refuses as before, and so does a waiver that has expired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from fnmatch import fnmatchcase
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from hydrogate.checks.bounds import CONTRACTS, Bounds, Override, resolve_bounds
from hydrogate.checks.dataset import Dataset
from hydrogate.checks.declared import BadParams, Section, did_you_mean, explain
from hydrogate.checks.findings import Finding, Severity, Verdict
from hydrogate.checks.judge import judged
from hydrogate.checks.rules import Measurement, Quantities, Rule
from hydrogate.checks.tally import EXAMPLES

Words = Annotated[str, Field(min_length=1, pattern=r"\S")]


class Waiver(Section):
    """What is waived, and who answers for it until when.

    Parameters
    ----------
    structures : tuple of str
        "FILE record N".
    pattern : str, optional
        Of the file's name, with ``*`` and ``?``.
    fingerprint : str, optional
        SHA-256 of the data set (``hydrogate check --format json`` prints it). Alone it waives what the check finds of
        the data set as a whole; beside structures or a pattern it holds the waiver to this data set.
    expires : date
        The last day on which the waiver holds; in ``params.yaml`` in quotes, since DVC holds no dates.
    """

    contract: Words
    check: Words
    structures: tuple[Words, ...] = ()
    pattern: Words | None = None
    fingerprint: Words | None = None
    reason: Words
    author: Words
    expires: date

    @property
    def names_structures(self) -> bool:
        """Whether single structures are waived, and not the data set."""
        return bool(self.structures) or self.pattern is not None

    def __str__(self) -> str:
        return f"{self.author} until {self.expires}: {self.reason}"

    def whose(self) -> str:
        """The check, what of it is waived, and by whom."""
        named = [*self.structures, *([self.pattern] if self.pattern else [])]
        what = ", ".join(named) or f"the data set {str(self.fingerprint)[:12]}"
        return f"the waiver of {self.check} for {what} ({self})"

    def covers(self, data: Dataset, structures: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(K,) whether each of ``structures`` (K,) is one that the waiver names."""
        named = set(self.structures)

        def covered(row: int) -> bool:
            source = str(data.source[row])
            by_pattern = bool(source) and self.pattern is not None and fnmatchcase(source, self.pattern)
            return by_pattern or f"{source} record {data.source_index[row]}" in named

        rows, place = np.unique(structures, return_inverse=True)
        return np.array([row < len(data) and covered(row) for row in rows.tolist()], dtype=bool)[place]


def read_waivers(overrides: Sequence[Override]) -> tuple[Waiver, ...]:
    """The ``waivers`` of the overrides, all of them.

    Raises
    ------
    BadParams
        One names no reason, author or expiry, a contract or check that is unknown, or nothing that it waives.
    """
    return tuple(
        _read(item, f"{source}: contracts.waivers[{index}]")
        for source, override in overrides
        for index, item in enumerate(_listed(override.get("waivers"), source))
    )


def _listed(section: object, source: str) -> list[object]:
    if section is None:
        return []
    if not isinstance(section, list):
        raise BadParams(f"{source}: contracts.waivers: expected a list, got {section!r}")
    return section


def _read(item: object, where: str) -> Waiver:
    if not isinstance(item, Mapping):
        raise BadParams(f"{where}: expected a mapping, got {item!r}")
    try:
        waiver = Waiver.model_validate(item)
    except ValidationError as error:
        raise BadParams(f"{where}: {explain(error, Waiver)}") from error
    if waiver.contract not in CONTRACTS:
        raise BadParams(f"{where}: contract {waiver.contract!r} is unknown{did_you_mean(waiver.contract, CONTRACTS)}")
    if waiver.contract == "input":
        raise BadParams(f"{where}: contract input cannot be waived: its records are quarantined, each with its reason")
    _, known = resolve_bounds(waiver.contract)
    if waiver.check not in known:
        raise BadParams(f"{where}: check {waiver.check!r} is unknown{did_you_mean(waiver.check, known)}")
    if not (waiver.names_structures or waiver.fingerprint):
        raise BadParams(f"{where}: name what is waived: structures, a pattern of files, or the data set's fingerprint")
    return waiver


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
