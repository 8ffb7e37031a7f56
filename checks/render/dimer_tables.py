"""Terminal and Markdown tables of dissociation curves: groups of dimers by distance."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

_HEADINGS = {
    "group": "group",
    "distance": "over equilibrium",
    "n": "n",
    "interaction_teacher": "teacher, meV",
    "student_against_teacher": "student − teacher, meV",
    "teacher_against_ccsdt": "teacher − CCSD(T), meV",
    "force_rmse": "force RMSE, eV/Å",
    "force_teacher": "RMS teacher force, eV/Å",
}
_ENERGIES = ("interaction_teacher", "student_against_teacher", "teacher_against_ccsdt")


def dimers_text(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Render a table of ``rows`` (eV, eV/Å); differences are mean absolute differences."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in _HEADINGS.values():
        table.add_column(heading, justify="left" if heading == "group" else "right", overflow="fold")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def dimers_markdown(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return the same as Markdown."""
    lines = [f"## {title}", "", f"| {' | '.join(_HEADINGS.values())} |", f"| --- |{' ---: |' * (len(_HEADINGS) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(_cells(row))} |" for row in rows)]) + "\n"


def _cells(row: Mapping[str, Any]) -> Iterator[str]:
    for key in _HEADINGS:
        value = row[key]
        yield f"{1000 * value:.1f}" if key in _ENERGIES else f"{value:.3f}" if isinstance(value, float) else str(value)
