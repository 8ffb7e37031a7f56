"""Exceptions shared by all packages, and suggestions for misspelt names."""

import difflib
from collections.abc import Iterable


class BadParams(ValueError):
    """Invalid declaration; the message names the key, its value and the values it accepts."""


class UnreadableData(ValueError):
    """Data that do not have the expected form or content; the message gives the location and the remedy."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return '; did you mean x?' if a known name is similar to ``name``, otherwise the list of known names."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"
