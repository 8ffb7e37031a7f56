"""Stages ``guard_<contract>``: a token where the contract holds, exit status 1 where it does not.

With ``contracts.<contract>.enforce: report`` a token there too, and what let it through is said first.

In:  ``metrics/<contract>.json``, the findings.
Out: ``data/<contract>.ok``: the contract's name and the fingerprint of the data, and nothing else, so that tightening a
     bound that still holds leaves it as it is and nothing downstream runs again.
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
    """The findings that the check of ``contract`` wrote.

    Raises
    ------
    UnreadableFile
        Missing, not to be read, or no report of that contract.
    """
    path = root / f"{contract}.json"
    try:
        report = Report.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise UnreadableFile(f"{path}: no such file; run the stage check_{contract} first") from error
    except OSError as error:
        raise UnreadableFile(
            f"{path}: not readable ({error.strerror}); mend or remove it, and run the stage check_{contract} again"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableFile(
            f"{path}: no report of a contract ({error}); run the stage check_{contract} again"
        ) from error
    if report.contract != contract:
        raise UnreadableFile(f"{path}: a report of contract {report.contract!r}, expected {contract!r}")
    return report


def readable_reports(root: Path) -> Iterator[Report]:
    """The committed findings of the project at ``root`` that can be read; the decision is blocked where one cannot."""
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
        The contract does not hold, and is enforced; a check that could not run refuses too.
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
    """Refuse to go on unless ``contract`` has passed for the data with this fingerprint.

    Raises
    ------
    ContractViolation
        There is no token, or it is another data set's.
    """
    token = root / f"{contract}.ok"
    held = token.read_text(encoding="utf-8").split() if token.exists() else []
    if held != [contract, fingerprint]:
        what = "is of other data" if held else "does not exist"
        raise ContractViolation(
            f"contract {contract}: its token {token} {what}; run `dvc repro`, or the stages check_{contract} and "
            f"guard_{contract}"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m hydrogate.pipeline.stages.guard CONTRACT``."""
    (contract,) = sys.argv[1:] if argv is None else argv
    report = read_report(contract)
    token = run(report)
    print(f"{report.caveat or f'contract {contract} holds'}: {token}")
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
