"""The text of SDF files: which files are meant, and each record of them, one at a time."""

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import NamedTuple, NoReturn

from hydrogate.pipeline.storage.hdf5 import LARGEST_EXPANSION, UnreadableFile

SUFFIXES = (".sdf", ".sdf.gz")
# A record of 999 atoms is 0.1 MB; what goes on without `$$$$` is no SDF file and would fill the memory.
LONGEST_RECORD = 20_000_000


class InputFiles(NamedTuple):
    """SDF files, sorted, each once; and how many files of other kinds lay beside them."""

    paths: tuple[Path, ...]
    ignored: int


def resolve_input(spec: str | Sequence[str]) -> InputFiles:
    """The SDF files that ``spec`` names: a file, a folder (searched to its depth), a glob, or a list of these.

    Raises
    ------
    UnreadableFile
        An entry names nothing, or no SDF file; or a folder below it cannot be looked into.
    """
    entries = [spec] if isinstance(spec, str) else list(spec)
    if not all(entries) or not entries:
        raise UnreadableFile(
            f"regenerate.input names nothing ({spec!r}, an empty {'text' if entries else 'list'}); name an SDF file, a "
            "folder or a glob"
        )
    found: dict[Path, Path] = {}
    ignored: set[Path] = set()
    for entry in entries:
        path = Path(entry)
        files = _files_below(path) if path.is_dir() else [path] if path.is_file() else _matching(entry)
        wanted = [file for file in files if file.name.lower().endswith(SUFFIXES)]
        if not wanted:
            takes = "regenerate.input takes SDF files, a folder, a glob, or a list of them"
            raise UnreadableFile(f"{entry}: {_held_instead(path, files)}; {takes}")
        found |= {file.resolve(): file for file in wanted}
        ignored |= {file.resolve() for file in files} - {file.resolve() for file in wanted}
    return InputFiles(tuple(sorted(found.values(), key=Path.as_posix)), len(ignored))


def _files_below(folder: Path) -> list[Path]:
    """Every file, also through linked folders, each folder once."""

    def refuse(error: OSError) -> NoReturn:
        raise UnreadableFile(f"{error.filename}: a folder that cannot be looked into: {error.strerror}") from error

    files: list[Path] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for file in (Path(place, name) for name in names):
            if not file.is_file() and file.name.lower().endswith(SUFFIXES):
                what = _held_instead(file, []) if file.exists() else "a link to a file that is not there"
                raise UnreadableFile(f"{file}: {what}; take it out of the folder, or name the files")
            files += [file] if file.is_file() else []
    return files


def _held_instead(path: Path, files: Sequence[Path]) -> str:
    """What is there, where no SDF file is."""
    if files:
        count = f"{len(files)} files, none of them" if len(files) > 1 else "1 file, no"
        return f"{'no' if [path] == files else count} .sdf or .sdf.gz"
    if path.is_dir():
        return "a folder without files"
    if path.exists():
        return "neither a file nor a folder but a pipe or a device, which cannot be read twice"
    return "a pattern that no file matches" if set("*?[") & set(str(path)) else "no such file or folder"


def digest_of(paths: Sequence[Path]) -> str:
    """SHA-256 of the files' names and bytes: whether the input is still what the data set was made of."""
    digest = hashlib.sha256()
    for path, name in zip(paths, source_names(paths), strict=True):
        with path.open("rb") as file:
            digest.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()} ".encode())
    return digest.hexdigest()


def source_names(paths: Sequence[Path]) -> list[str]:
    """How each file is called in the data set: by its name, or from the common folder where two share a name."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    common = os.path.commonpath([path.resolve().parent for path in paths])
    return [path.resolve().relative_to(common).as_posix() for path in paths]


def raw_records(path: Path) -> Iterator[str]:
    """The text of each record of ``path``, gzipped or not, one at a time.

    Raises
    ------
    FileNotFoundError, UnreadableFile
        There is no such file; it is empty, no SDF file, or its compressed stream is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    looks_like_sdf, length = False, 0
    try:
        with path.open("rb") as plain:
            compressed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            file = io.TextIOWrapper(gzip.GzipFile(fileobj=plain) if compressed else plain, "utf-8", errors="replace")
            for text in _records(iter(lambda: file.readline(LONGEST_RECORD), ""), path):
                length += len(text)
                if compressed and length > LARGEST_EXPANSION * plain.tell():
                    raise UnreadableFile(
                        f"{path}: more than {LARGEST_EXPANSION} times as large as its gzip file, which no SDF file is"
                    )
                looks_like_sdf = looks_like_sdf or "M  END" in text or "V2000" in text or "V3000" in text
                yield text
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableFile(f"{path}: truncated or damaged gzip file ({error}); copy or make it again") from error
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be read: {error}") from error
    if not looks_like_sdf:
        empty = path.stat().st_size == 0
        what = "an empty file" if empty else "no SDF file: it holds no V2000 or V3000 record"
        raise UnreadableFile(f"{path}: {what}; name an SDF file with records")


def _records(lines: Iterable[str], path: Path) -> Iterator[str]:
    record: list[str] = []
    length = 0
    for line in lines:
        if line.startswith("$$$$"):
            yield "".join(record)
            record, length = [], 0
            continue
        record.append(line)
        length += len(line)
        if length > LONGEST_RECORD:
            raise UnreadableFile(f"{path}: {length} characters without a record's end ($$$$): no SDF file")
    if "".join(record).strip():
        yield "".join(record)


def _matching(pattern: str) -> list[Path]:
    # Path.glob takes no absolute pattern.
    return [path for path in map(Path, glob(pattern, recursive=True)) if path.is_file()]  # noqa: PTH207
