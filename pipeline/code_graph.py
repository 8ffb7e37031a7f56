"""Import graph: source files of the project that a module depends on, read from the import statements.

It answers three questions: what a DVC stage depends on (the test of ``dvc.yaml``), whether an interrupted training may
be resumed with the present code (:mod:`hydrogate.pipeline.stages.train`), and which changed files can change a verdict
(:mod:`hydrogate.pipeline.reports.git_base`). The modules are parsed, not imported.
"""

import ast
from collections.abc import Collection
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# These files start a module, define parameters, or print; they change no result of a stage.
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
    """Return the source files of ``modules`` and of everything they import, also indirectly or inside functions.

    A package whose ``__init__`` imports its modules by name (students, kernels, checks) contributes all of its files;
    kernels also contribute their C++ sources.

    Parameters
    ----------
    modules : str
        For example "hydrogate.pipeline.stages.train"; modules of ``studies`` exist only in a checkout.
    apart : collection of str
        Files that are left out and not followed, written as in the result.
    package : pathlib.Path
        Folder of the package ``hydrogate``.

    Returns
    -------
    list of str
        Sorted, relative to the package, for example "checks/data/dataset.py"; files of ``studies`` begin with
        "studies/".
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
    """Return the source files that the result of ``stage`` depends on.

    The modules that write another stage's findings and tokens are left out.

    Parameters
    ----------
    stage : str
        Name of its module in ``pipeline/stages``.
    """
    others = [f"pipeline/stages/{name}.py" for name in ("check", "guard") if name != stage]
    return code_of(f"{_STAGES}{stage}", apart=(*NO_RESULT, *others))


def judging_code() -> list[str]:
    """Return the source files that can change a verdict, a metric or the decision.

    They regenerate, label, train, validate, judge or report.
    """
    stages = (f"{_STAGES}{path.stem}" for path in (PACKAGE / "pipeline/stages").glob("[!_]*.py"))
    reports = ("hydrogate.pipeline.reports.report", "hydrogate.pipeline.reports.review")
    return code_of(*stages, "hydrogate.pipeline.decision.decide", *reports, "studies.benchmarks.student")


def _files(module: str, package: Path) -> tuple[Path, ...]:
    """Return the files that an import of ``module`` executes; empty if it is no module of this project."""
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
