"""Render the tables of the documentation: ``python -m studies.render_pages``.

The tables of docs/contracts.md come from the code, those of docs/results.md and docs/dataset.md from docs/results.json.
``--milestone reports/studies/milestone.json`` writes docs/results.json from the report of the study.
``--further complete-0=FILE`` adds the errors of one of its students on further molecules; FILE is the output of
``hydrogate evaluate --format json``.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydrogate.checks.render.contract_tables import with_tables
from hydrogate.pipeline.program import stage_exit_status
from studies import results

PAGE = Path("docs/contracts.md")
RESULTS = Path("docs/results.json")
OF_RESULTS = (Path("docs/results.md"), Path("docs/dataset.md"))


def main(argv: Sequence[str] | None = None) -> int:
    """Render the pages of the project in the working directory."""
    parser = argparse.ArgumentParser(prog="python -m studies.render_pages")
    parser.add_argument("--milestone", type=Path, help="report written by `nox -s study -- milestone`")
    parser.add_argument(
        "--further", action="append", default=[], metavar="RUN=FILE", help="output of `hydrogate evaluate`"
    )
    options = parser.parse_args(argv)
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    if options.milestone:
        further = {name: _read(file) for name, _, file in (given.partition("=") for given in options.further)}
        kept = results.reduced({**_read(options.milestone), "further": further})
        RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for page in OF_RESULTS if RESULTS.exists() else ():
        page.write_text(results.with_tables(page.read_text(encoding="utf-8"), _read(RESULTS)), encoding="utf-8")
    return 0


def _read(path: str | Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
