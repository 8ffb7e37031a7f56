"""Base of a branch: its declarations, read through git, and its metrics, read through DVC."""

import subprocess
from collections.abc import Mapping
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hydrogate.checks.declarations import parse_yaml
from hydrogate.checks.diff.declarations_diff import Declaration
from hydrogate.checks.errors import BadParams
from hydrogate.pipeline.code_graph import judging_code

DEFAULTS, PARAMS, PIPELINE = "checks/defaults.yaml", "params.yaml", "dvc.yaml"
# Files that can change a verdict besides the code of the stages: commands, sessions, installed versions, workflows.
BESIDE = ("pipeline/cli/*", "noxfile.py", "pyproject.toml", ".github/*", ".gitlab-ci.yml")


class Base(NamedTuple):
    """Base commit of a branch.

    Parameters
    ----------
    named : str
        The revision as given by the caller.
    commit : str
        The merge base of that revision and HEAD. Later commits to the base branch then do not count as changes of
        this branch.
    """

    named: str
    commit: str

    def __str__(self) -> str:
        return f"{self.named} ({self.commit[:10]})"


class Differences(NamedTuple):
    """Differences as DVC reports them: file to dotted key to ``{"old": …, "new": …}``; ``errors`` are sentences."""

    metrics: Mapping[str, Mapping[str, Any]]
    params: Mapping[str, Mapping[str, Any]]
    errors: tuple[str, ...]


def find_base(root: Path, revision: str) -> Base:
    """Return the merge base of ``revision`` and HEAD.

    Raises
    ------
    BadParams
        The revision does not exist, there is no git repository, or the clone has too little history.
    """
    shallow = _git(root, "rev-parse", "--is-shallow-repository")
    if shallow is None:
        raise BadParams(f"--base {revision}: no git repository here, or git does not trust its owner")
    remedy = (
        "this clone is shallow: fetch the full history, with `fetch-depth: 0` for actions/checkout, "
        "`GIT_DEPTH: 0` on GitLab, or `git fetch --unshallow`"
    )
    commit = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        known = _git(root, "rev-parse", "--verify", "--quiet", f"refs/remotes/origin/{revision}^{{commit}}")
        nearest = f"did you mean origin/{revision}?" if known else "`git branch -a` lists the branches of this clone"
        why = remedy if shallow.strip() == "true" else nearest
        raise BadParams(f"--base {revision}: no such revision in this clone; {why}")
    merge_base = _git(root, "merge-base", commit.strip(), "HEAD")
    if merge_base is None:
        why = remedy if shallow.strip() == "true" else "name the branch that this one started from"
        raise BadParams(f"--base {revision}: no common ancestor with HEAD; {why}")
    return Base(revision, merge_base.strip())


def _git(root: Path, *arguments: str) -> str | None:
    """Return the output of git, or None if it fails."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, encoding="utf-8", check=False)
    return done.stdout if done.returncode == 0 else None


def declaration_of(root: Path) -> Declaration:
    """Return the declarations of the working tree; with the installed defaults if the project ships none.

    Raises
    ------
    BadParams
        A file is not a YAML mapping.
    """
    texts = {name: _text(root, name) for name in (DEFAULTS, PARAMS, PIPELINE)}
    return _declaration(texts, "", _installed_defaults())


def _text(root: Path, name: str) -> str | None:
    try:
        return (root / name).read_text(encoding="utf-8") if (root / name).exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise BadParams(f"{name}: not readable as YAML: {error}") from error


def declaration_at(root: Path, base: Base) -> tuple[Declaration, tuple[str, ...]]:
    """Return the declarations of ``base``, and a sentence about each missing file.

    Raises
    ------
    BadParams
        A file is not a YAML mapping.
    """
    texts = {name: _git(root, "show", f"{base.commit}:./{name}") for name in (DEFAULTS, PARAMS, PIPELINE)}
    own = (root / DEFAULTS).exists()
    told = [f"{base} has no {PARAMS}: nothing is declared there"] if texts[PARAMS] is None else []
    if texts[DEFAULTS] is None and own:
        told.append(f"{base} has no {DEFAULTS}: the shipped bounds of this branch are used instead")
    shipped = (root / DEFAULTS).read_text(encoding="utf-8") if own else _installed_defaults()
    return _declaration(texts, f"{base}: ", shipped), tuple(told)


def _installed_defaults() -> str:
    return files("hydrogate.checks").joinpath("defaults.yaml").read_text("utf-8")


def _declaration(texts: Mapping[str, str | None], where: str, shipped: str) -> Declaration:
    filled = {**texts, DEFAULTS: shipped if texts[DEFAULTS] is None else texts[DEFAULTS]}
    return Declaration(*(_mapping(text or "", f"{where}{name}") for name, text in filled.items()))


def _mapping(text: str, where: str) -> dict[str, Any]:
    try:
        content = parse_yaml(text)
    except yaml.YAMLError as error:
        raise BadParams(f"{where}: not readable as YAML: {error}") from error
    if not isinstance(content, dict | None):
        raise BadParams(f"{where}: is a {type(content).__name__}, expected a mapping of sections")
    return content or {}


def changed_judges(root: Path, base: Base) -> tuple[str, ...]:
    """Return the files that differ from ``base`` and can change a verdict, with their names in git.

    These are the files that stages and the decision run, deleted source files, and the files of ``BESIDE``.
    """
    listed = _git(root, "diff", "--name-only", "--no-renames", "--relative", "-z", base.commit) or ""
    code = set(judging_code())
    return tuple(name for name in listed.split("\0") if name and (name in code or _decides(root, name)))


def _decides(root: Path, name: str) -> bool:
    gone = name.endswith(".py") and name.startswith(("checks/", "models/", "pipeline/")) and not (root / name).exists()
    return gone or any(fnmatch(name, pattern) for pattern in BESIDE)


def differences(root: Path, base: Base) -> Differences:
    """Compare the working tree with ``base`` through DVC: all metrics, also unchanged ones, and changed parameters."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    found: dict[str, Mapping[str, Any]] = {"metrics": {}, "params": {}}
    errors = []
    try:
        with Repo(str(root)) as repo:
            found["metrics"] = repo.metrics.diff(base.commit, "workspace", all=True)
            found["params"] = repo.params.diff(base.commit, "workspace")
    except DvcException as error:
        errors.append(f"DVC cannot compare: {error}")
    for what, result in found.items():
        for revision, fault in result.get("errors", {}).items():
            named = "this branch" if revision == "workspace" else str(base)
            faults = fault if isinstance(fault, Mapping) else {"DVC": fault}
            absent = [file for file in faults if isinstance(faults[file], FileNotFoundError)]
            errors += [f"{what} of {named}: missing {', '.join(absent)}"] if absent else []
            errors += [f"{what} of {named}: {file}: {faults[file]!r}" for file in faults if file not in absent]
    if not errors and not found["metrics"].get("diff"):
        errors.append("DVC finds no metrics on either side (dvc.yaml, metrics)")
    return Differences(found["metrics"].get("diff", {}), found["params"].get("diff", {}), tuple(errors))
