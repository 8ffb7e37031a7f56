"""What a contract says: verdicts, findings, a report. Only ``pass`` opens anything."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter, ValidationError


class Verdict(StrEnum):
    """What a check found.

    ``undecided`` is too little to judge (n below the minimum, NaN); ``not_run`` lacks an input that the check needs;
    ``error`` means that the check itself broke.
    """

    PASS = "pass"
    FAIL = "fail"
    UNDECIDED = "undecided"
    NOT_RUN = "not_run"
    ERROR = "error"


class Severity(StrEnum):
    """``error`` refuses, ``warn`` is reported."""

    ERROR = "error"
    WARN = "warn"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Parameters
    ----------
    observed : mapping of str to float
        Each quantity judged, in ``unit``; the worst value where the check judges structure by structure.
    allowed : mapping of str to str
        The bound of each quantity, in words.
    n, n_bad : int
        Rows judged and rows outside the bound, counted exactly.
    message : str
        What, where, observed, allowed.
    examples : tuple of str
        The worst few, by name; never one a failure.
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
        """The quantities and their unit in words; a check's only quantity goes without its name."""
        parts = [f"{_label(name)}{number(value)}" for name, value in self.observed.items()]
        return f"{', '.join(parts)} {self.unit}".strip() if parts else ""

    def allowed_text(self) -> str:
        """The bounds in words."""
        return ", ".join(f"{_label(name)}{bound}" for name, bound in self.allowed.items())

    def refuses(self, strict: bool = False) -> bool:
        """Whether this finding alone keeps the contract from holding; ``strict`` refuses ``not_run`` too."""
        if self.severity is Severity.WARN:
            return False
        if self.verdict is Verdict.NOT_RUN:
            return strict
        return self.verdict is not Verdict.PASS


def number(value: float) -> str:
    """Four digits; all of them where ``value`` counts something."""
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def _label(name: str) -> str:
    return "" if name in ("value", "worst") else f"{name} "


@dataclass(frozen=True)
class Report:
    """All findings of one contract on one data set.

    Parameters
    ----------
    fingerprint : str
        Of the content that was judged.
    switched_off : tuple of str
        Checks that the parameters switch off, in sight of a reviewer.
    summary : mapping
        What was judged: structures, atoms, species in percent.
    enforced : bool
        False where ``contracts.<contract>.enforce: report`` lets data through that the contract refuses.
    holds_under : tuple of str
        Other shipped profiles, made for such data, under which nothing refuses; empty where the contract holds.
    not_judged : tuple of str
        What the data carry and the contract does not look at: energies, forces.
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
        """What every report of the data, and of all that is made from them, must say first; empty where nothing is."""
        if self.enforced or self.holds(strict=True):
            return ""
        refusing = ", ".join(finding.check for finding in self.refusals(strict=True)) or "no check ran"
        return (
            f"contract {self.contract} does not hold ({refusing}); contracts.{self.contract}.enforce: report let the "
            "data through"
        )

    def refusals(self, strict: bool = False) -> tuple[Finding, ...]:
        """The findings for which the contract does not hold."""
        return tuple(finding for finding in self.findings if finding.refuses(strict))

    def holds(self, strict: bool = False) -> bool:
        """Whether no check refuses and at least one check ran."""
        ran = any(finding.verdict in (Verdict.PASS, Verdict.FAIL) for finding in self.findings)
        return ran and not self.refusals(strict)

    def hint(self) -> str:
        """The profile that fits the data better, and what was not judged, in one sentence; empty where neither is."""
        options = " or ".join(f"--profile {name}" for name in self.holds_under)
        hints = [f"under {options} this contract holds"] if options else []
        if self.not_judged:
            hints.append(f"{' and '.join(self.not_judged)} not judged: --contract labels judges them")
        return "; ".join(hints)

    def to_dict(self, strict: bool = False) -> dict[str, Any]:
        """As JSON holds it: the form of ``metrics/<contract>.json`` and of ``--format json``.

        ``checks`` holds what `dvc metrics diff` should show. The findings in full are a list, which DVC passes over.
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
        """The report that :meth:`to_dict` wrote.

        Raises
        ------
        KeyError, TypeError, AttributeError, ValueError
            The content is no report.
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
    """A contract does not hold, and something that needs it was asked for."""
