"""Names that people type, checked against those that exist."""

import difflib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path


class UnknownName(ValueError):
    """A student, teacher, method, size or word that does not exist; the message names the nearest one that does."""


def refuse_unknown(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise unless ``name`` is one of ``known``.

    Parameters
    ----------
    kind : str
        What is being named, as a person reads it: "student", "teacher".
    name : str
        What was asked for.
    known : iterable of str
        What exists.

    Raises
    ------
    UnknownName
        ``name`` is none of them.
    """
    names = sorted(known)
    if name in names:
        return
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
    raise UnknownName(f"unknown {kind} {name!r}; {hint}")


def module_names(folder: Path) -> list[str]:
    """Names of the modules in ``folder`` whose name does not start with an underscore, sorted."""
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def words(argv: Sequence[str] | None, known: Sequence[str]) -> set[str]:
    """What a benchmark was told, ``quick`` or ``--quick`` alike; a misspelt word would start the long one.

    Raises
    ------
    UnknownName
        A word is none of ``known``.
    """
    given = {word.lstrip("-") for word in (sys.argv[1:] if argv is None else argv)}
    for word in sorted(given):
        refuse_unknown("word", word, known)
    return given
