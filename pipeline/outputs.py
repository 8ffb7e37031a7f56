"""What is left for other programs and for readers, each file whole or not at all: JSON, JUnit XML, Data Docs.

JUnit XML and Data Docs are no dependency and no output of a stage: Data Docs hold the time of their making.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from hydrogate.checks.engine.bounds import Override, resolve_bounds
from hydrogate.checks.errors import BadParams
from hydrogate.checks.findings import Report
from hydrogate.checks.render.ci.junit import junit_xml
from hydrogate.pipeline.storage.hdf5 import written_whole

DATA_DOCS = Path("reports/data-docs")
# Bytes that the temporary name of `written_whole` has over the file's own: a process's number has at most 7 digits.
LONGER = 26


def refuse_unwritable(path: Path, *sources: Path, force: bool = True, suffixes: Sequence[str] = ()) -> None:
    """Raise unless a file ``path`` can be written, before hours are spent on what goes into it.

    Parameters
    ----------
    path : Path
    *sources : Path
        What it is made of, and may not replace.
    force : bool
        It may replace another file.
    suffixes : sequence of str
        Those that name a format; none where there is but one.

    Raises
    ------
    BadParams
        Its suffix names no format, its name is too long, it is a folder, one of ``sources`` or there already, or
        nothing can be written where it would lie.
    """
    if suffixes and path.suffix not in suffixes:
        raise BadParams(f"{path}: the suffix {path.suffix!r} says no format; known: {', '.join(suffixes)}")
    folder = next(one for one in path.absolute().parents if one.exists() or one.is_symlink())
    length, longest = len(os.fsencode(path.name)), _longest_name(folder) - LONGER
    if length > longest:
        raise BadParams(f"{path}: a name of {length} bytes, at most {longest} can be written in {folder}; shorten it")
    if path.is_dir():
        raise BadParams(f"{path}: a folder, where a file is asked for; name a file in it")
    if path.exists() and not force:
        raise BadParams(f"{path}: exists already; name another file, or overwrite it with --force")
    if path.exists() and any(source.exists() and path.samefile(source) for source in sources):
        raise BadParams(f"{path}: would replace the file that it is made of; name another one")
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadParams(
            f"{path}: nothing can be written in {folder} ({error.strerror}); name another place, or mend that one"
        ) from error


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError):  # not on Windows; a link to nowhere
        return 255


def write_text(path: Path, text: str, *, errors: str = "strict") -> None:
    """Write ``text``, as UTF-8; ``errors`` as those of :meth:`str.encode`."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any], *, indent: int = 2) -> None:
    """Write ``content`` as JSON that every reader takes.

    Raises
    ------
    ValueError
        A number in it is not finite.
    """
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def write_junit(
    path: Path, reports: Sequence[Report], decision: Mapping[str, Any] | None = None, strict: bool = False
) -> None:
    """Write what :func:`hydrogate.checks.render.ci.junit.junit_xml` makes of them."""
    write_text(path, junit_xml(reports, decision, strict))


def write_data_docs(folder: Path, report: Report, overrides: Sequence[Override]) -> Path:
    """Write the Data Docs of ``report`` below ``folder/<contract>`` and return their first page (extra ``gx``).

    Parameters
    ----------
    folder : Path
    report : Report
    overrides : sequence of (source, mapping)
        Those that ``report`` was judged with; the bounds' reasons become notes.
    """
    from hydrogate.checks.contracts.great_expectations import data_docs

    _, declared = resolve_bounds(report.contract, profile=report.profile, overrides=overrides)
    for name, page in data_docs(report, declared).items():
        write_text(folder / report.contract / name, page)
    return folder / report.contract / "index.html"
