"""Marker for the tests of studies/."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that `-m "not studies"` deselects them."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("studies")
