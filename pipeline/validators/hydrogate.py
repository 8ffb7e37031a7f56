"""Hydrogate's contracts `structures` and `labels` as shipped, without the teacher."""

from hydrogate.checks.contract import check
from hydrogate.checks.dataset import Dataset
from hydrogate.checks.symmetry import Potential

SOURCE = "contracts.md"


def complaints(data: Dataset, relabel: Potential | None = None) -> list[str]:
    """The checks that refuse; ``relabel`` is the teacher, to be asked again."""
    reports = (check(data, contract, relabel=relabel) for contract in ("structures", "labels"))
    return [f"{report.contract}: {finding.check}" for report in reports for finding in report.refusals()]
