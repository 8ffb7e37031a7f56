"""Sessions: repro, tests, checks, benchmarks, lint, types. All but lint and types share one environment."""

import os
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "virtualenv"

TORCH = "torch==2.13.0"
SHARED = ".nox/hydrogate"
QUIET = {
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    # A busy machine and spinning OpenMP threads turn microseconds into milliseconds.
    "OMP_WAIT_POLICY": "PASSIVE",
}


def _install(session: nox.Session) -> None:
    """The project with all of its extras; torch first, so that the build the machine offers is kept."""
    session.env.update(QUIET)
    session.install(TORCH)
    session.install("-e", ".[all,dev]")


@nox.session(venv_location=SHARED, reuse_venv=True)
def repro(session: nox.Session) -> None:
    """`dvc repro` on the input that params.yaml names (`-- -S KEY=VALUE`: as `dvc exp run`), then the decision."""
    _install(session)
    command = ["exp", "run", *session.posargs] if session.posargs else ["repro"]
    status = session.run("dvc", *command, success_codes=range(256))
    # Always decided, also after a failure: else a broken branch would show the last good milestone.
    session.run("hydrogate", "decide")
    if status is False:
        session.error("dvc did not finish; the decision above says what blocks")


@nox.session(venv_location=SHARED, reuse_venv=True)
def tests(session: nox.Session) -> None:
    """The tests; arguments go to pytest."""
    _install(session)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(venv_location=SHARED, reuse_venv=True)
def checks(session: nox.Session) -> None:
    """Every contract on the data that is here, then the decision; no training."""
    _install(session)
    for contract, file in (("structures", "structures.h5"), ("labels", "labelled.h5"), ("predictions", "predictions.h5")):
        path = Path("data") / file
        if path.exists():
            reference = ["--reference", "data/labelled.h5"] if contract == "predictions" else []
            session.run("hydrogate", "check", str(path), "--contract", contract, *reference)
        else:
            session.log(f"{path} is not here: its committed findings, metrics/{contract}.json, stand")
    session.run("hydrogate", "decide")


@nox.session(venv_location=SHARED, reuse_venv=True)
def benchmarks(session: nox.Session) -> None:
    """Speed as ratios, side by side in one process; `-- quick` for a short look."""
    _install(session)
    session.run("python", "-m", "hydrogate.models.bench", *session.posargs)


@nox.session(reuse_venv=True)
def lint(session: nox.Session) -> None:
    """ruff, both as linter and as formatter."""
    session.install("ruff>=0.14")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(venv_location=SHARED, reuse_venv=True)
def types(session: nox.Session) -> None:
    """mypy, strict, on checks and pipeline."""
    _install(session)
    session.run("mypy", "-p", "hydrogate.checks", "-p", "hydrogate.pipeline")


if os.environ.get("CI"):
    nox.options.error_on_missing_interpreters = True
