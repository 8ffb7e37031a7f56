"""Output files for other programs and for readers, written atomically: JSON, JUnit XML, Data Docs.

JUnit XML and Data Docs are neither dependencies nor outputs of a stage, because Data Docs contain a timestamp.
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
# Bytes that `written_whole` adds to the file name for its temporary name; a process ID has at most 7 digits.
LONGER = 26


def refuse_unwritable(path: Path, *sources: Path, force: bool = True, suffixes: Sequence[str] = ()) -> None:
    """Check that the output file ``path`` can be written, before hours are spent on computing its content.

    Parameters
    ----------
    path : Path
    *sources : Path
        Input files, which must not be overwritten.
    force : bool
        Whether another existing file may be overwritten.
    suffixes : sequence of str
        Suffixes of the known formats; empty if there is only one format.

    Raises
    ------
    BadParams
        The suffix is unknown, the name is too long, the path is a folder or one of ``sources``, the file already
        exists, or its folder is not writable.
    """
    if suffixes and path.suffix not in suffixes:
        raise BadParams(f"{path}: unknown suffix {path.suffix!r}; expected {', '.join(suffixes)}")
    folder = next(one for one in path.absolute().parents if one.exists() or one.is_symlink())
    length, longest = len(os.fsencode(path.name)), _longest_name(folder) - LONGER
    if length > longest:
        raise BadParams(f"{path}: the name has {length} bytes, at most {longest} are possible in {folder}; shorten it")
    if path.is_dir():
        raise BadParams(f"{path}: expected a file, but this is a folder; give a file inside it")
    if path.exists() and not force:
        raise BadParams(f"{path}: already exists; choose another file, or overwrite it with --force")
    if path.exists() and any(source.exists() and path.samefile(source) for source in sources):
        raise BadParams(f"{path}: would overwrite an input file; choose another file")
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadParams(
            f"{path}: cannot write to {folder} ({error.strerror}); choose another folder, or fix this one"
        ) from error


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError):  # not on Windows; a link to nowhere
        return 255


def write_text(path: Path, text: str, *, errors: str = "strict") -> None:
    """Write ``text`` as UTF-8; ``errors`` as in :meth:`str.encode`."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any], *, indent: int = 2) -> None:
    """Write ``content`` as standard JSON.

    Raises
    ------
    ValueError
        ``content`` contains a non-finite number.
    """
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def write_junit(
    path: Path, reports: Sequence[Report], decision: Mapping[str, Any] | None = None, strict: bool = False
) -> None:
    """Write the output of :func:`hydrogate.checks.render.ci.junit.junit_xml` for ``reports`` and ``decision``."""
    write_text(path, junit_xml(reports, decision, strict))


def write_data_docs(folder: Path, report: Report, overrides: Sequence[Override]) -> Path:
    """Write the Data Docs of ``report`` below ``folder/<contract>`` and return their index page (extra ``gx``).

    Parameters
    ----------
    folder : Path
    report : Report
    overrides : sequence of (source, mapping)
        Overrides with which ``report`` was computed; the reasons of the bounds become notes.
    """
    from hydrogate.checks.contracts.great_expectations import data_docs

    _, declared = resolve_bounds(report.contract, profile=report.profile, overrides=overrides)
    for name, page in data_docs(report, declared).items():
        write_text(folder / report.contract / name, page)
    return folder / report.contract / "index.html"
