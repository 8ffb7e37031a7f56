"""Tests that docs/angular-loss.md shows the measured values."""

import json
from pathlib import Path

from studies.study import load_study, table

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_table_is_that_of_the_figures() -> None:
    report = json.loads((DOCS / "angular-loss.json").read_text(encoding="utf-8"))
    assert table(load_study("angular"), report) in (DOCS / "angular-loss.md").read_text(encoding="utf-8")
