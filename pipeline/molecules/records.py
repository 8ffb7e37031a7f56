"""Input SDF files: finding the files, and reading the text of their records one at a time."""

import bz2
import codecs
import gzip
import hashlib
import io
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import NamedTuple, NoReturn

from hydrogate.pipeline.storage.hdf5 import LARGEST_EXPANSION, UnreadableFile

SUFFIXES = tuple(f"{kind}{packed}" for kind in (".sdf", ".sd", ".mol") for packed in ("", ".gz", ".bz2"))
_COUNTS = re.compile(r"[ \d]{3}[ \d]{3}[ \d]*V[23]000\s*$")
# A record of 999 atoms has 0.1 MB; a longer text without `$$$$` is no SDF file and could fill the memory.
LONGEST_RECORD = 20_000_000


_UNPACK: dict[bytes, Callable[[io.BufferedReader], gzip.GzipFile | bz2.BZ2File]] = {
    b"\x1f\x8b": lambda plain: gzip.GzipFile(fileobj=plain),
    b"BZ": lambda plain: bz2.BZ2File(plain),
}


class InputFiles(NamedTuple):
    """Input SDF files, sorted and without repeats, and the number of other files that were ignored."""

    paths: tuple[Path, ...]
    ignored: int


def resolve_input(spec: str | Sequence[str]) -> InputFiles:
    """Return the SDF files that ``spec`` names: a file, a folder (searched recursively), a glob, or a list of these.

    Raises
    ------
    UnreadableFile
        An entry matches nothing or no SDF file, or a folder below it cannot be read.
    """
    entries = [spec] if isinstance(spec, str) else list(spec)
    if not all(entries) or not entries:
        raise UnreadableFile(
            f"regenerate.input is empty ({spec!r}, an empty {'string' if entries else 'list'}); give an SDF file, a "
            "folder or a glob"
        )
    found: dict[Path, Path] = {}
    ignored: set[Path] = set()
    for entry in entries:
        path = Path(entry)
        files = _files_below(path) if path.is_dir() else [path] if path.is_file() else _matching(entry)
        wanted = [file for file in files if file.name.lower().endswith(SUFFIXES)]
        if not wanted:
            takes = "regenerate.input accepts SDF files, a folder, a glob, or a list of these"
            raise UnreadableFile(f"{entry}: {_held_instead(path, files)}; {takes}")
        found |= {file.resolve(): file for file in wanted}
        ignored |= {file.resolve() for file in files} - {file.resolve() for file in wanted}
    return InputFiles(tuple(sorted(found.values(), key=Path.as_posix)), len(ignored))


def _files_below(folder: Path) -> list[Path]:
    """Return every file below ``folder``, also in linked folders; each folder is visited once."""

    def refuse(error: OSError) -> NoReturn:
        raise UnreadableFile(f"{error.filename}: cannot read folder: {error.strerror}") from error

    files: list[Path] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link to a folder already visited
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for file in (Path(place, name) for name in names):
            if not file.is_file() and file.name.lower().endswith(SUFFIXES):
                what = _held_instead(file, []) if file.exists() else "a link to a file that does not exist"
                raise UnreadableFile(f"{file}: {what}; remove it from the folder, or list the files by name")
            files += [file] if file.is_file() else []
    return files


def _held_instead(path: Path, files: Sequence[Path]) -> str:
    """Return what ``path`` is, for the message that it is no SDF file."""
    if files:
        count = f"{len(files)} files, none of them" if len(files) > 1 else "1 file, not"
        return f"{'not' if [path] == files else count} .sdf, .sd or .mol"
    if path.is_dir():
        return "a folder without files"
    if path.exists():
        return "a pipe or a device, which cannot be read twice"
    return "no file matches this pattern" if set("*?[") & set(str(path)) else "no such file or folder"


def digest_of(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of the files' names and bytes, to see if the data set was made from the present input."""
    digest = hashlib.sha256()
    for path, name in zip(paths, source_names(paths), strict=True):
        with path.open("rb") as file:
            digest.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()} ".encode())
    return digest.hexdigest()


def source_names(paths: Sequence[Path]) -> list[str]:
    """Return the name of each file in the data set: its file name, or its path from the common folder if two agree."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    common = os.path.commonpath([path.resolve().parent for path in paths])
    return [path.resolve().relative_to(common).as_posix() for path in paths]


def raw_records(path: Path) -> Iterator[str]:
    """Yield the text of each record of ``path``, one at a time; gzip and bzip2 are unpacked.

    Raises
    ------
    FileNotFoundError, UnreadableFile
        The file does not exist, is empty, is no SDF file, or its compressed stream is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    looks_like_sdf, length = False, 0
    try:
        with path.open("rb") as plain:
            opener = _UNPACK.get(plain.read(2))
            plain.seek(0)
            opened = opener(plain) if opener else plain
            file = io.TextIOWrapper(opened, "utf-8", errors="replace")
            if opened.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise UnreadableFile(f"{path}: UTF-16 text; convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE")
            for text in _records(iter(lambda: file.readline(LONGEST_RECORD), ""), path):
                length += len(text)
                if opener and length > LARGEST_EXPANSION * plain.tell():
                    raise UnreadableFile(
                        f"{path}: expands to more than {LARGEST_EXPANSION} times its compressed size: not an SDF file"
                    )
                looks_like_sdf = looks_like_sdf or "M  END" in text or "V2000" in text or "V3000" in text
                yield text
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableFile(
            f"{path}: truncated or damaged compressed file ({error}); copy or create it again"
        ) from error
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be read: {error}") from error
    if not looks_like_sdf:
        empty = path.stat().st_size == 0
        what = "an empty file" if empty else "not an SDF file: it has no V2000 or V3000 record"
        raise UnreadableFile(f"{path}: {what}; give an SDF file with records")


def _records(lines: Iterable[str], path: Path) -> Iterator[str]:
    """Yield the text of each record; a molecule block that follows another without ``$$$$`` begins a record too."""
    record: list[str] = []
    length, has_block = 0, False
    for line in lines:
        if line.strip().startswith("$$$$"):
            yield "".join(record)
            record, length, has_block = [], 0, False
            continue
        record.append(line)
        length += len(line)
        start = len(record) - 4  # the counts line is the fourth of its block
        # A block directly after the name of a data item is the item's value.
        if _COUNTS.match(line) and start >= 0 and not (start and record[start - 1].startswith(">")):
            if has_block:
                yield "".join(record[:start])
                record = record[start:]
                length = sum(map(len, record))
            has_block = True
        if length > LONGEST_RECORD:
            raise UnreadableFile(f"{path}: {length} characters without the end of a record ($$$$): not an SDF file")
    if "".join(record).strip():
        yield "".join(record)


def _matching(pattern: str) -> list[Path]:
    # Path.glob accepts no absolute pattern.
    return [path for path in map(Path, glob(pattern, recursive=True)) if path.is_file()]  # noqa: PTH207
