"""``hydrogate report``: the changes of a pull request in Markdown, from the metrics in git and the declarations.

The decision is computed again, as by ``hydrogate decide``, so that a broken branch never shows the last good milestone.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydrogate.checks.diff.declarations_diff import Declaration, compare_declarations
from hydrogate.checks.errors import BadParams
from hydrogate.checks.findings import Report
from hydrogate.checks.render.ci.annotations import annotations
from hydrogate.checks.render.ci.pull_request import Comparison, State, pull_request_markdown
from hydrogate.pipeline.decision import decide, staleness
from hydrogate.pipeline.decision.staleness import Stale
from hydrogate.pipeline.reports.git_base import (
    PARAMS,
    PIPELINE,
    Base,
    changed_judges,
    declaration_at,
    declaration_of,
    differences,
    find_base,
)
from hydrogate.pipeline.stages.guard import readable_reports


def run(
    root: Path = Path(),
    base: str | None = None,
    reports: Sequence[Report] | None = None,
    stale: Sequence[Stale] | None = None,
) -> tuple[str, list[str]]:
    """Return the report and its annotations.

    Parameters
    ----------
    root : Path
        Root of the project.
    base : str, optional
        Target revision of the branch; None to report the current state only.
    reports : sequence of Report, optional
        Fresh findings; default: those in ``metrics/``.
    stale : sequence of Stale, optional
        Stale stages, if already known; default: query DVC.

    Raises
    ------
    BadParams
        The base does not exist or cannot be read.
    """
    found = find_base(root, base) if base is not None else None
    changed = staleness.stale_stages(root) if stale is None else list(stale)
    decision = decide.run(root, lambda _: changed)
    unreadable: tuple[str, ...] = ()
    try:
        declared = declaration_of(root)
    except BadParams as error:
        declared, unreadable = Declaration({}, {}, {}), (f"{error}; its bounds cannot be compared",)
    state = State(
        decision=decision,
        reports=tuple(readable_reports(root) if reports is None else reports),
        stale=tuple(f"{item.stage}: {item.changes}".removeprefix(": ") for item in changed),
        plots=tuple(_plots(declared.pipeline)),
        link=_page_of_this_run(os.environ),
    )
    compared = _compared(root, found, declared, unreadable) if found is not None else None
    text = (root / PARAMS).read_text(encoding="utf-8", errors="replace") if (root / PARAMS).is_file() else ""
    changes = compared.changes if compared is not None else ()
    return pull_request_markdown(state, compared), annotations(decision, state.reports, changes, text)


def _compared(root: Path, base: Base, declared: Declaration, unreadable: tuple[str, ...]) -> Comparison:
    before, told = declaration_at(root, base)
    told += tuple(
        f"this branch has no {name}: nothing is declared in it"
        for name in (PARAMS, PIPELINE)
        if not (root / name).exists()
    )
    measured = differences(root, base)
    return Comparison(
        base=str(base),
        changes=() if unreadable else compare_declarations(before, declared),
        metrics={Path(file).stem: leaves for file, leaves in measured.metrics.items()},
        params={
            key if Path(file).name == PARAMS else f"{file}: {key}": leaf
            for file, leaves in measured.params.items()
            for key, leaf in leaves.items()
        },
        unknown=(*unreadable, *told),
        unmeasured=measured.errors,
        judges=changed_judges(root, base),
    )


def _plots(pipeline: Mapping[str, Any]) -> Iterator[str]:
    """Yield the plots that ``dvc.yaml`` declares; DVC reports anything else there."""
    stages = pipeline.get("stages")
    holders = [*(stages.values() if isinstance(stages, Mapping) else ()), pipeline]
    blocks = [holder.get("plots") for holder in holders if isinstance(holder, Mapping)]
    for entry in (entry for block in blocks if isinstance(block, list) for entry in block):
        if entry and isinstance(entry, str | Mapping):
            yield entry if isinstance(entry, str) else str(next(iter(entry)))


def _page_of_this_run(environment: Mapping[str, str]) -> str:
    """Return the URL of the workflow run on GitHub, which has its artifacts; empty elsewhere."""
    server, repository, run = (environment.get(f"GITHUB_{key}", "") for key in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    link = f"{server}/{repository}/actions/runs/{run}"
    return link if re.fullmatch(r"https://[\w.-]+(:\d+)?/[\w.-]+/[\w.-]+/actions/runs/\d+", link) else ""
