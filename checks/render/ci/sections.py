"""Foldable sections of a Markdown report, truncated by rows to stay under a limit; omitted rows are counted."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from hydrogate.checks.render.markdown import escape_markdown

NAME, WORDS = 120, 300


class Section(NamedTuple):
    """A section of a report; untrusted text in it is already escaped.

    Parameters
    ----------
    title : str
    rows, head : sequence of str
        Lines; the last rows are omitted first if space is short, the head (of a table) always stays.
    note : str
        Always stays too.
    unfolded : bool
    more : str
        The command that shows every row.
    """

    title: str
    rows: Sequence[str]
    head: Sequence[str] = ()
    note: str = ""
    unfolded: bool = False
    more: str = "hydrogate report"

    def markdown(self, count: int | None = None) -> str:
        """Render the section with its first ``count`` rows, all by default."""
        shown = self.rows[:count]
        lines = ["", f"<details{' open' if self.unfolded else ''}><summary>{self.title}</summary>", ""]
        lines += [*self.head, *shown] if self.rows else []
        if left := len(self.rows) - len(shown):
            lines += ["", f"**{left} of {len(self.rows)} rows are left out here**; `{self.more}` shows all."]
        lines += ["", self.note] if self.note else []
        return "\n".join([*lines, "", "</details>", ""])


def frames(sections: Sequence[Section]) -> int:
    """Return the number of characters of the sections without their rows."""
    return sum(len(section.markdown(0)) for section in sections)


def fitted(sections: Sequence[Section], limit: int) -> str:
    """Render the sections in at most ``limit`` characters (or without rows), earlier ones with as many rows as fit."""
    parts: list[str] = []
    free = limit - frames(sections)
    for section in sections:
        used = fitting = 0
        for row in section.rows:
            used += len(row) + 1
            if used > free:
                break
            fitting += 1
        parts.append(section.markdown(fitting))
        free -= len(parts[-1]) - len(section.markdown(0))
    return "".join(parts)


def row(*cells: str) -> str:
    """Return a table row with every cell escaped."""
    return "| " + " | ".join(map(words, cells)) + " |"


def words(text: str, limit: int = WORDS) -> str:
    """Return ``text`` escaped, truncated if it is longer than ``limit``."""
    return escape_markdown(cut(text, limit))


def cut(text: str, limit: int) -> str:
    """Return ``text``, or its beginning with a mark that it is truncated."""
    return text if len(text) <= limit else f"{text[:limit]}… (cut)"


def shown(value: Any) -> str:
    """Return a value of a file as text."""
    if value is None:
        return "absent"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)
