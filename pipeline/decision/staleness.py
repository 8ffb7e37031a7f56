"""Changes since ``dvc.lock`` was written, by stage, as reported by DVC."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

_ABSENT = ("deleted", "not in cache")


class Stale(NamedTuple):
    """Stage with changes since it ran; the name is empty if DVC could not determine the changes."""

    stage: str
    changes: str


def stale_stages(root: Path) -> list[Stale]:
    """List the stages of the project at ``root`` whose code, parameters or data have changed since they ran.

    Missing data and plots, as in a fresh clone, do not count as a change: their metrics are in git.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            status = repo.status()
            made = {str(out) for out in repo.index.outs if not out.metric}
            staged = bool(repo.index.stages)
    except DvcException as error:
        return [Stale("", f"DVC cannot tell what has changed: {error}")]
    if not staged:
        return [Stale("", "DVC cannot tell what has changed: it finds no stage, no dvc.yaml")]
    found = []
    for stage, entries in status.items():
        changes = [change for entry in entries for change in _changes(entry, made)]
        if changes:
            more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
            found.append(Stale(stage, f"{', '.join(changes[:3])}{more}"))
    return found


def _changes(entry: Any, made: set[str]) -> Iterator[str]:
    if entry == "always changed":  # stage list_input: only its output counts
        return
    if not isinstance(entry, Mapping):
        yield str(entry)
        return
    for paths in entry.values():
        for path, state in paths.items():
            if isinstance(state, Mapping):
                yield from (f"{path} {key} {change}" for key, change in state.items())
            elif not (path in made and state in _ABSENT):
                yield f"{path} {state}"
