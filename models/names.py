"""Validation of the names that users type, against the known names."""

import difflib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path


class UnknownName(ValueError):
    """Unknown student, teacher, method, size or word; the message names the nearest known one."""


def refuse_unknown(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise an error unless ``name`` is one of ``known``.

    Parameters
    ----------
    kind : str
        Kind of name, as shown to the user: "student", "teacher".
    name : str
        Name to look up.
    known : iterable of str
        Known names.

    Raises
    ------
    UnknownName
        ``name`` is not known.
    """
    names = sorted(known)
    if name in names:
        return
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
    raise UnknownName(f"unknown {kind} {name!r}; {hint}")


def module_names(folder: Path) -> list[str]:
    """List the modules in ``folder`` whose name does not start with an underscore, sorted."""
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def words(argv: Sequence[str] | None, known: Sequence[str]) -> set[str]:
    """Return the words on a benchmark's command line, ``quick`` and ``--quick`` alike.

    Unknown words are rejected: without ``quick``, a misspelt word would start the long benchmark.

    Raises
    ------
    UnknownName
        A word is not in ``known``.
    """
    given = {word.lstrip("-") for word in (sys.argv[1:] if argv is None else argv)}
    for word in sorted(given):
        refuse_unknown("word", word, known)
    return given
