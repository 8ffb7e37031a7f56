"""The tables of docs/contracts.md brought up to date with the code: ``python -m hydrogate.pipeline.pages``."""

import sys
from collections.abc import Sequence
from pathlib import Path

from hydrogate.checks.render.contracts import with_tables

PAGE = Path("docs/contracts.md")


def main(argv: Sequence[str] | None = None) -> int:
    """Render the page of the project whose root is the working directory."""
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
