"""Verdicts, findings and the report of a contract. Only ``pass`` lets the pipeline continue."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter, ValidationError


class Verdict(StrEnum):
    """Verdict of a check.

    ``undecided``: too few data (n below the minimum) or NaN. ``not_run``: an input that the check needs is missing.
    ``error``: the check itself crashed.
    """

    PASS = "pass"
    FAIL = "fail"
    UNDECIDED = "undecided"
    NOT_RUN = "not_run"
    ERROR = "error"


class Severity(StrEnum):
    """Severity of a finding: ``error`` fails the contract, ``warn`` is only reported."""

    ERROR = "error"
    WARN = "warn"


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Parameters
    ----------
    observed : mapping of str to float
        Value of each checked quantity, in ``unit``; the worst value if the check is per structure.
    allowed : mapping of str to str
        Bound of each quantity, as text.
    n, n_bad : int
        Number of rows checked and of rows outside the bound; exact counts.
    message : str
        Quantity, location, observed value and allowed range.
    examples : tuple of str
        Names of the worst few rows; not every failing row is listed.
    """

    contract: str
    check: str
    verdict: Verdict
    severity: Severity
    message: str
    remedy: str = ""
    n: int = 0
    n_bad: int = 0
    unit: str = ""
    observed: Mapping[str, float] = field(default_factory=dict)
    allowed: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    reason: str = ""
    source: str = ""

    def __str__(self) -> str:
        remedy = f" {self.remedy}" if self.remedy and self.verdict is Verdict.FAIL else ""
        return f"contract {self.contract}, check {self.check}: {self.message}{remedy}"

    def observed_text(self) -> str:
        """Return the observed values with their unit as text; a single quantity is given without its name."""
        parts = [f"{_label(name)}{number(value)}" for name, value in self.observed.items()]
        return f"{', '.join(parts)} {self.unit}".strip() if parts else ""

    def allowed_text(self) -> str:
        """Return the bounds as text."""
        return ", ".join(f"{_label(name)}{bound}" for name, bound in self.allowed.items())

    def refuses(self, strict: bool = False) -> bool:
        """Return True if this finding fails the contract; with ``strict``, ``not_run`` fails it too."""
        if self.severity is Severity.WARN:
            return False
        if self.verdict is Verdict.NOT_RUN:
            return strict
        return self.verdict is not Verdict.PASS


def number(value: float) -> str:
    """Format ``value`` with four significant digits; an integer with all its digits."""
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def _label(name: str) -> str:
    return "" if name in ("value", "worst") else f"{name} "


@dataclass(frozen=True)
class Report:
    """All findings of one contract for one data set.

    Parameters
    ----------
    fingerprint : str
        Hash of the data that were checked.
    switched_off : tuple of str
        Checks that the parameters switch off, listed so that a reviewer sees them.
    summary : mapping
        Size and composition of the data: structures, atoms, species in percent.
    enforced : bool
        False if ``contracts.<contract>.enforce: report`` lets data through for which the contract fails.
    holds_under : tuple of str
        Other shipped profiles that suit the data and under which the contract passes; empty if it passes already.
    not_judged : tuple of str
        Labels in the data that this contract does not check: energies, forces.
    """

    contract: str
    profile: str
    fingerprint: str
    findings: tuple[Finding, ...]
    switched_off: tuple[str, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    holds_under: tuple[str, ...] = ()
    not_judged: tuple[str, ...] = ()
    enforced: bool = True

    @property
    def caveat(self) -> str:
        """Warning to print first in every report on these data and on results derived from them; else empty."""
        if self.enforced or self.holds(strict=True):
            return ""
        refusing = ", ".join(finding.check for finding in self.refusals(strict=True)) or "no check ran"
        return (
            f"contract {self.contract} failed ({refusing}); contracts.{self.contract}.enforce: report let the "
            "data through"
        )

    def refusals(self, strict: bool = False) -> tuple[Finding, ...]:
        """Return the findings that fail the contract."""
        return tuple(finding for finding in self.findings if finding.refuses(strict))

    def holds(self, strict: bool = False) -> bool:
        """Return True if the contract passes: at least one check ran and no finding fails the contract."""
        ran = any(finding.verdict in (Verdict.PASS, Verdict.FAIL) for finding in self.findings)
        return ran and not self.refusals(strict)

    def hint(self) -> str:
        """Return one sentence on profiles that suit the data better and on labels not checked; may be empty."""
        options = " or ".join(f"--profile {name}" for name in self.holds_under)
        hints = [f"this contract passes with {options}"] if options else []
        if self.not_judged:
            hints.append(f"{' and '.join(self.not_judged)} not checked: use --contract labels")
        return "; ".join(hints)

    def to_dict(self, strict: bool = False) -> dict[str, Any]:
        """Return the report as JSON-ready values, as in ``metrics/<contract>.json`` and ``--format json``.

        ``checks`` contains the values for `dvc metrics diff`. The full findings are a list, which DVC ignores.
        """
        content = {
            "contract": self.contract,
            "profile": self.profile,
            "verdict": "pass" if self.holds(strict) else "fail",
            "holds": self.holds(strict),
            "fingerprint": self.fingerprint,
            "summary": dict(self.summary),
            "switched_off": " ".join(self.switched_off),
            "checks": {
                f.check: {"verdict": str(f.verdict), "n_bad": f.n_bad, "observed": dict(f.observed)}
                for f in self.findings
            },
            "findings": [_finding_to_dict(finding) for finding in self.findings],
        }
        content |= {name: " ".join(said) for name in ("holds_under", "not_judged") if (said := getattr(self, name))}
        return content | ({} if self.enforced else {"enforced": False})

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Report":
        """Return the report from the output of :meth:`to_dict`.

        Raises
        ------
        KeyError, TypeError, AttributeError, ValueError
            The content is not a report.
        """
        names = [field.name for field in fields(Finding) if field.name not in ("contract", "examples")]
        given = {
            "contract": content["contract"],
            "profile": content["profile"],
            "fingerprint": content["fingerprint"],
            "findings": [
                {name: item[name] for name in names}
                | {"contract": content["contract"], "examples": item.get("examples", [])}
                for item in content["findings"]
            ],
            "switched_off": content["switched_off"].split(),
            "summary": content["summary"],
            "holds_under": content.get("holds_under", "").split(),
            "not_judged": content.get("not_judged", "").split(),
            "enforced": content.get("enforced", True),
        }
        try:
            report = TypeAdapter(cls).validate_python(given)
            species = {"summary.species_percent": report.summary.get("species_percent", {})}
            TypeAdapter(dict[str, dict[str, float]]).validate_python(species)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        if "structures" in report.summary and not {"atoms", "species_percent"} <= report.summary.keys():
            raise ValueError("summary: structures without atoms or species_percent")
        return report


def _finding_to_dict(finding: Finding) -> dict[str, Any]:
    item: dict[str, Any] = {
        "check": finding.check,
        "verdict": str(finding.verdict),
        "severity": str(finding.severity),
        "n": finding.n,
        "n_bad": finding.n_bad,
        "unit": finding.unit,
        "observed": dict(finding.observed),
        "allowed": dict(finding.allowed),
        "message": finding.message,
        "remedy": finding.remedy,
        "reason": finding.reason,
        "source": finding.source,
    }
    return item | ({"examples": list(finding.examples)} if finding.examples else {})


class ContractViolation(Exception):
    """Raised if a contract fails and the requested step requires it to pass."""
