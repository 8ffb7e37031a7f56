"""Data contracts, metrics and gates. They take arrays and return findings, without PyTorch and without data files.

>>> from ase.build import molecule
>>> from hydrogate.checks import check
>>> check([molecule("CH3CH2OH")], contract="structures", profile="small").holds()
True
"""

from hydrogate.checks.contracts.run import check
from hydrogate.checks.data.dataset import Dataset, concatenate
from hydrogate.checks.data.from_atoms import from_atoms
from hydrogate.checks.errors import UnreadableData
from hydrogate.checks.findings import ContractViolation, Finding, Report, Severity, Verdict

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
