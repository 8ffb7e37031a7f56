"""Stages ``guard_<contract>``: write a token if the contract passes, otherwise exit with status 1.

With ``contracts.<contract>.enforce: report`` a failed contract gets its token too; every report then begins with a
caveat.

In:  ``metrics/<contract>.json``, the findings.
Out: ``data/<contract>.ok``, the token: the contract's name and the fingerprint of the data, and nothing else. If a
     bound is tightened and the contract still passes, the token is unchanged and DVC reruns nothing downstream.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydrogate.checks.engine.bounds import CONTRACTS
from hydrogate.checks.findings import ContractViolation, Report
from hydrogate.pipeline.outputs import write_text
from hydrogate.pipeline.program import stage_exit_status
from hydrogate.pipeline.storage.hdf5 import UnreadableFile

DATA = Path("data")
METRICS = Path("metrics")


def read_report(contract: str, root: Path = METRICS) -> Report:
    """Read the findings that stage ``check_<contract>`` wrote.

    Raises
    ------
    UnreadableFile
        The file is missing, unreadable, or no report of that contract.
    """
    path = root / f"{contract}.json"
    try:
        report = Report.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise UnreadableFile(f"{path}: no such file; run the stage check_{contract} first") from error
    except OSError as error:
        raise UnreadableFile(
            f"{path}: not readable ({error.strerror}); fix or remove it, then run the stage check_{contract} again"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableFile(
            f"{path}: not a contract report ({error}); run the stage check_{contract} again"
        ) from error
    if report.contract != contract:
        raise UnreadableFile(f"{path}: report of contract {report.contract!r}, expected {contract!r}")
    return report


def readable_reports(root: Path) -> Iterator[Report]:
    """Yield the readable committed reports of the project at ``root``; an unreadable one blocks the decision."""
    for contract in CONTRACTS:
        try:
            yield read_report(contract, root / "metrics")
        except UnreadableFile:
            continue


def run(report: Report, root: Path = DATA) -> Path:
    """Write the token of ``report``.

    Raises
    ------
    ContractViolation
        The contract failed and is enforced. A check that could not run counts as a failure.
    """
    token = root / f"{report.contract}.ok"
    if report.enforced and not report.holds(strict=True):
        token.unlink(missing_ok=True)
        refusals = report.refusals(strict=True)
        lines = [str(finding) for finding in refusals] or [f"contract {report.contract}: no check ran."]
        raise ContractViolation("\n".join(lines))
    write_text(token, f"{report.contract} {report.fingerprint}\n")
    return token


def require_token(contract: str, fingerprint: str, root: Path = DATA) -> None:
    """Raise unless ``contract`` has passed for the data with this fingerprint.

    Raises
    ------
    ContractViolation
        The token is missing or belongs to another data set.
    """
    token = root / f"{contract}.ok"
    held = token.read_text(encoding="utf-8").split() if token.exists() else []
    if held != [contract, fingerprint]:
        what = "belongs to other data" if held else "does not exist"
        raise ContractViolation(
            f"contract {contract}: token {token} {what}; run `dvc repro`, or the stages check_{contract} and "
            f"guard_{contract}"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m hydrogate.pipeline.stages.guard CONTRACT``."""
    (contract,) = sys.argv[1:] if argv is None else argv
    report = read_report(contract)
    token = run(report)
    print(f"{report.caveat or f'contract {contract} passed'}: {token}")
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
