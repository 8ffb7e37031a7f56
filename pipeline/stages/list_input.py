"""Stage ``list_input``: a digest of the input files, by which DVC sees that one of them has changed.

In:  the files that ``regenerate.input`` names: a file, a folder, a glob, or a list of these, anywhere.
Out: ``data/input.json``: that parameter, the number of files, and the SHA-256 of their names and bytes.

DVC takes neither a glob nor a list as a dependency, so this stage always runs, for as long as it takes to read the
files. Stage ``regenerate`` depends on the digest and runs only if it has changed. Where the files are not here, the
digest of the last run stands.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydrogate.pipeline.molecules.records import digest_of, resolve_input
from hydrogate.pipeline.outputs import write_json
from hydrogate.pipeline.params import load_params
from hydrogate.pipeline.program import stage_exit_status
from hydrogate.pipeline.storage.hdf5 import UnreadableFile

OUTPUT = Path("data/input.json")


def run(spec: str | Sequence[str]) -> dict[str, Any]:
    """Return the digest of the files that ``spec`` names.

    Raises
    ------
    UnreadableFile
        See :func:`hydrogate.pipeline.molecules.records.resolve_input`.
    """
    files = resolve_input(spec).paths
    return {"input": _plain(spec), "files": len(files), "digest": digest_of(files)}


def _plain(spec: str | Sequence[str]) -> str | list[str]:
    return spec if isinstance(spec, str) else list(spec)


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``data/input.json``; 0 when done, 2 where the input or the parameters are invalid."""
    spec = load_params().regenerate.input
    try:
        listing = run(spec)
    except UnreadableFile as error:
        if not _listed_before(spec):
            raise
        print(f"{error}; the digest of the last run stands")
        return 0
    write_json(OUTPUT, listing)
    print(f"{OUTPUT}: {listing['files']} input files")
    return 0


def _listed_before(spec: str | Sequence[str]) -> bool:
    try:
        content = json.loads(OUTPUT.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("input") == _plain(spec)


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
