"""Which files of the project a module runs, read from the imports in their sources.

One answer to three questions: what a DVC stage depends on (the test of ``dvc.yaml``), by which code half a training may
be continued (:mod:`hydrogate.pipeline.stages.train`), and which changed files can change a verdict
(:mod:`hydrogate.pipeline.reports.git_base`). Nothing is imported.
"""

import ast
from collections.abc import Collection
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# How a module is called, which parameters exist, and what is declared or printed change no result of a stage.
NO_RESULT = (
    "checks/declarations.py",
    "checks/engine/bounds.py",
    "checks/engine/registry.py",
    "checks/errors.py",
    "checks/findings.py",
    "pipeline/code_graph.py",
    "pipeline/outputs.py",
    "pipeline/params.py",
    "pipeline/program.py",
    "pipeline/storage/atomic_write.py",
)
_STAGES = "hydrogate.pipeline.stages."


def code_of(*modules: str, apart: Collection[str] = (), package: Path = PACKAGE) -> list[str]:
    """Source files that ``modules`` run: their own and all that these import, directly or not, also inside functions.

    A package whose ``__init__`` imports by name (students, kernels, checks) brings all of its files with it; kernels
    bring their C++.

    Parameters
    ----------
    modules : str
        Such as "hydrogate.pipeline.stages.train"; modules of ``studies`` are known in a checkout alone.
    apart : collection of str
        Files that are not followed, as this function names files.
    package : pathlib.Path
        The folder of package ``hydrogate``.

    Returns
    -------
    list of str
        Sorted, relative to the package: "checks/data/dataset.py"; those of ``studies`` begin with "studies/".
    """
    seen: set[str] = set()
    todo = [path for module in modules for path in _files(module, package)]
    while todo:
        path = todo.pop()
        name = path.relative_to(package if path.is_relative_to(package) else package.parent).as_posix()
        if name in seen or name in apart:
            continue
        seen.add(name)
        todo += [file for module in _imports(path, path.stat().st_mtime_ns) for file in _files(module, package)]
    return sorted(seen)


def code_of_stage(stage: str) -> list[str]:
    """Source files that the result of ``stage`` depends on; another stage's findings and token are that stage's own.

    Parameters
    ----------
    stage : str
        Its module in ``pipeline/stages``.
    """
    others = [f"pipeline/stages/{name}.py" for name in ("check", "guard") if name != stage]
    return code_of(f"{_STAGES}{stage}", apart=(*NO_RESULT, *others))


def judging_code() -> list[str]:
    """Source files that a verdict, a metric or the decision comes from: all that makes, labels, learns or measures."""
    stages = (f"{_STAGES}{path.stem}" for path in (PACKAGE / "pipeline/stages").glob("[!_]*.py"))
    reports = ("hydrogate.pipeline.reports.report", "hydrogate.pipeline.reports.review")
    return code_of(*stages, "hydrogate.pipeline.decision.decide", *reports, "studies.benchmarks.student")


def _files(module: str, package: Path) -> tuple[Path, ...]:
    """The files that an import of ``module`` runs; none where it is not of this project, or no module."""
    first, *rest = module.split(".")
    if first not in ("hydrogate", "studies") or not rest:
        return ()
    place = (package if first == "hydrogate" else package.parent / first).joinpath(*rest)
    if (file := place.with_suffix(".py")).is_file():
        return (file,)
    if not (face := place / "__init__.py").is_file():
        return ()
    by_name = "import_module" in face.read_text(encoding="utf-8")
    return tuple(path for path in place.iterdir() if path.suffix in (".py", ".cpp")) if by_name else (face,)


@cache
def _imports(path: Path, _changed: int) -> frozenset[str]:
    if path.suffix != ".py":
        return frozenset()
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)
