"""Data contracts, metrics and gates: tables and numbers in, findings out. No torch, no files.

>>> from ase.build import molecule
>>> from hydrogate.checks import check
>>> check([molecule("CH3CH2OH")], contract="structures", profile="small").holds()
True
"""

from hydrogate.checks.contract import check
from hydrogate.checks.dataset import Dataset, UnreadableData, concatenate
from hydrogate.checks.findings import ContractViolation, Finding, Report, Severity, Verdict
from hydrogate.checks.frames import from_atoms

__all__ = [
    "ContractViolation",
    "Dataset",
    "Finding",
    "Report",
    "Severity",
    "UnreadableData",
    "Verdict",
    "check",
    "concatenate",
    "from_atoms",
]
