"""``hydrogate profile``: propose bounds from trusted data, as a file for ``hydrogate check --params``."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from hydrogate.checks import check
from hydrogate.checks.contracts.propose_bounds import proposal_yaml, propose
from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.engine.bounds import Override
from hydrogate.checks.findings import ContractViolation
from hydrogate.pipeline.outputs import write_text


def write_profile(
    data: Dataset,
    output: Path,
    contracts: Sequence[str],
    origin: str,
    profile: str | None,
    overrides: Sequence[Override],
    margin: float,
) -> list[str]:
    """Write the proposed bounds of ``contracts`` to ``output`` and return a summary, line by line.

    Raises
    ------
    ContractViolation
        ``data`` fails under the proposed bounds: it violates a bound that no data set may loosen, or is too small for
        a decision. Nothing is written.
    """
    proposals = [propose(data, name, profile=profile, overrides=overrides, margin=margin) for name in contracts]
    text = proposal_yaml(proposals, origin, margin)
    written: Override = (str(output), yaml.safe_load(text)["contracts"])
    for name in contracts:
        report = check(data, name, overrides=[*overrides, written])
        if not report.holds():
            reasons = "\n".join(str(finding) for finding in report.refusals()) or "no check ran"
            others = "".join(
                f"\n--contract {other} proposes bounds for that contract only" for other in contracts if other != name
            )
            raise ContractViolation(
                f"{output}: not written, the data fail contract {name} even with proposed bounds:\n{reasons}{others}"
            )
    write_text(output, text)
    loosened = [f"{proposal.contract}.{name}" for proposal in proposals for name in proposal.loosened()]
    left_out = [f"{proposal.contract}.{c.check}" for proposal in proposals for c in proposal.checks if c.note]
    return [
        f"{output}: bounds of {sum(not c.note for proposal in proposals for c in proposal.checks)} checks",
        *([f"looser than shipped, review them: {', '.join(loosened)}"] if loosened else []),
        *([f"kept as shipped, see the comments in the file: {', '.join(left_out)}"] if left_out else []),
        f"next: hydrogate check DATA --params {output}",
    ]
