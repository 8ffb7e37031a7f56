"""Input paths: files, folders of shards, and patterns that the shell has not expanded."""

import sys
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from hydrogate.checks.errors import BadParams
from hydrogate.pipeline.formats.options import FORMATS


def files_of(paths: Sequence[Path], input_format: str | None = None) -> list[Path]:
    """Return the files given by ``paths``: for a folder its files of one format, for a pattern its matches.

    Raises
    ------
    BadParams
        A file is given twice, or a folder contains no file of a known format or files of several formats.
    FileNotFoundError
        A pattern matches nothing.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += _files_in(path, input_format)
        elif path.exists() or not set("*?[") & set(str(path)):
            files.append(path)  # if it does not exist, its reader raises an error
        elif matching := sorted(Path(name) for name in glob(str(path), recursive=True)):  # noqa: PTH207
            files += matching
        else:
            raise FileNotFoundError(f"{path}: no file matches this pattern")
    seen: set[Path] = set()
    for file in files:
        if file.resolve() in seen:
            raise BadParams(f"{file}: given twice; each of its structures would be counted twice")
        seen.add(file.resolve())
    return files


def _files_in(folder: Path, input_format: str | None) -> list[Path]:
    by_format: dict[str, list[Path]] = {}
    aside: list[str] = []
    for file in sorted(file for file in folder.iterdir() if not file.name.startswith(".")):
        if not file.is_file():
            aside.append(f"{file.name}/")
            continue
        of = next((name for name, item in FORMATS.items() if file.name.lower().endswith(item.suffixes)), None)
        if of is None or input_format not in (None, of, "spice" if of == "hdf5" else of):
            aside.append(file.name)
        else:
            by_format.setdefault(of, []).append(file)
    held = ", ".join(f"{len(files)} {name}" for name, files in by_format.items())
    if len(by_format) != 1:
        pattern = folder / (f"*{next(iter(by_format.values()))[0].suffix}" if by_format else "**/*.extxyz")
        raise BadParams(
            f"{folder}: the folder contains {held or 'no file of a known format'}; give the files, or a pattern such "
            f"as '{pattern}'"
        )
    if aside:
        more = ", …" if len(aside) > 3 else ""
        print(f"{folder}: files read: {held}; ignored: {', '.join(aside[:3])}{more}", file=sys.stderr)
    return next(iter(by_format.values()))
