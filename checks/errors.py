"""Errors that every room raises, and the nearest known name for a misspelt one."""

import difflib
from collections.abc import Iterable


class BadParams(ValueError):
    """A declaration cannot be used; the message names the key, what it holds and what it may hold."""


class UnreadableData(ValueError):
    """Data that cannot be used as what they were taken for; the message names where and the remedy."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """'; did you mean x?' where a known name is near, else the list of known names."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"
