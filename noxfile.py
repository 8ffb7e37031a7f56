"""What can be run here; `nox -l` lists it."""

import hashlib
import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.error_on_missing_interpreters = True

TORCH = "torch==2.13.0"
ENVIRONMENT = Path(".nox/hydrogate").resolve()
BIN = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")


def _project(session: nox.Session) -> None:
    """The project with all of its extras, in one environment for all sessions: they need the same 2 GB of packages."""
    session.env["PATH"] = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    session.env["DVC_NO_ANALYTICS"] = "1"
    session.env["GX_ANALYTICS_ENABLED"] = "false"
    # On a busy machine spinning OpenMP threads turn microseconds into milliseconds.
    session.env["OMP_WAIT_POLICY"] = "PASSIVE"
    stamp, wanted = ENVIRONMENT / "installed", hashlib.sha256(Path("pyproject.toml").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if not ENVIRONMENT.exists():
        session.run("python", "-m", "venv", str(ENVIRONMENT), external=True)
    # torch first, so that the build this machine offers is kept.
    _run(session, "python", "-m", "pip", "install", "--quiet", TORCH)
    _run(session, "python", "-m", "pip", "install", "--quiet", "-e", ".[all,dev]")
    stamp.write_text(wanted)


def _run(session: nox.Session, program: str, *arguments: str, may_fail: bool = False) -> bool:
    codes = range(256) if may_fail else (0,)
    return bool(session.run(str(BIN / program), *arguments, success_codes=codes, external=True))


@nox.session(venv_backend="none")
def repro(session: nox.Session) -> None:
    """`dvc repro` on the input that params.yaml names (`-- -S KEY=VALUE`: as `dvc exp run`), then the decision."""
    _project(session)
    command = ["exp", "run", *session.posargs] if session.posargs else ["repro"]
    _run(session, "dvc", *command, may_fail=True)
    # Always, also after a failure: else a broken branch would show the last good milestone. It fails when blocked.
    _run(session, "hydrogate", "decide")


@nox.session(venv_backend="none")
def hydrogate(session: nox.Session) -> None:
    """The command `hydrogate` in the project's environment: `-- plan`, `-- sample --count 100`."""
    _project(session)
    _run(session, "hydrogate", *session.posargs)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """The tests, on all cores; arguments go to pytest: `-- -m "not slow"`, `-- tests/checks -n 0`."""
    _project(session)
    _run(session, "python", "-m", "pytest", "-n", "auto", "--dist", "loadfile", *session.posargs)


@nox.session(venv_backend="none")
def checks(session: nox.Session) -> None:
    """Every contract and gate on what is here, no training; writes reports/; arguments go to `hydrogate review`."""
    _project(session)
    _run(session, "hydrogate", "review", *session.posargs)


@nox.session(venv_backend="none")
def browser(session: nox.Session) -> None:
    """The HTML report in headless Chromium, which must be there (Debian: `apt-get install chromium`)."""
    _project(session)
    _run(session, "python", "-m", "pip", "install", "--quiet", "-e", ".[browser]")
    _run(session, "python", "-m", "pytest", "tests/browser", *session.posargs)


@nox.session(venv_backend="none")
def pymol(session: nox.Session) -> None:
    """The scripts of `hydrogate visualize` in PyMOL; installs Debian's `pymol` where none is, which takes root."""
    _project(session)
    if shutil.which("pymol") is None:
        session.run("apt-get", "install", "--yes", "pymol", external=True)
    _run(session, "python", "-m", "pytest", "tests/pymol", *session.posargs)
    if Path("data/predictions.h5").exists():
        _run(session, "hydrogate", "visualize", "-o", "reports/pymol", "--count", "5")


@nox.session(venv_backend="none")
def benchmarks(session: nox.Session) -> None:
    """Speed as ratios, side by side: `-- student` (the trained one beside its teacher, for two gates), `-- models`,
    `-- contracts` or `-- labelling` alone, `-- quick` for a short look.

    `-- profile` says where the time of a student's step goes instead, `-- scale` what data sets of any size need
    (docs/scale.md); `-- compiled` adds the compiled training step.
    """
    _project(session)
    modules = {"student": "student", "contracts": "contracts", "labelling": "labelling", "models": "kernels"}
    others = {"profile": "step_profile", "scale": "scale"}
    asked = [word for word in session.posargs if word in modules | others]
    how = [word for word in session.posargs if word not in asked]
    for name in asked or modules:
        # Asked of all, the compiled step is that of the models; what else a benchmark does not know it refuses.
        own = [word for word in how if asked or name == "models" or word.lstrip("-") != "compiled"]
        _run(session, "python", "-m", f"studies.benchmarks.{(modules | others)[name]}", *own)


@nox.session(venv_backend="none")
def study(session: nox.Session) -> None:
    """Settings of the pipeline compared, as DVC experiments in a clone: `-- milestone`; resumable.

    `-- angular` is that of the angular loss (docs/angular-loss.md); `-- angular --seeds 0 -S train.epochs=1` for a
    short look.
    """
    _project(session)
    _run(session, "python", "-m", "studies.study", *session.posargs)


@nox.session(venv_backend="none")
def sampling(session: nox.Session) -> None:
    """What each sampling of geometries teaches (docs/sampling.md); `-- --molecules 100 --seeds 0` for a short look."""
    _project(session)
    _run(session, "python", "-m", "studies.sampling_study", *session.posargs)


@nox.session(venv_backend="none")
def atlas(session: nox.Session) -> None:
    """Which data accidents cost how much, and who sees them (docs/atlas.md); resumable; `-- quick` for a short look.

    `-- detection` or `-- damage` alone; `-- publish` writes the page from what has been measured.
    """
    _project(session)
    _run(session, "python", "-m", "studies.atlas", *session.posargs)


@nox.session(venv_backend="none")
def benchmarks_peers(session: nox.Session) -> None:
    """Other people's models beside the students, each in an environment of its own: speed, and time to an accuracy.

    `-- quick`: inference at batch 8, two rounds; `-- accuracy`: the time to an accuracy alone. After `repro`.
    """
    _project(session)
    _run(session, "python", "-m", "studies.benchmarks.peers", *session.posargs)


@nox.session(reuse_venv=True)
def docs(session: nox.Session) -> None:
    """The docs as a site, with a reference from the docstrings: reports/site/index.html; a warning is an error.

    A page that is in no list, a dead link or anchor, something that a browser would fetch from elsewhere: none passes.
    Once installed, it needs no network.
    """
    session.install(*nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]["docs"])
    site = Path("reports/site")
    shutil.rmtree(site, ignore_errors=True)
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "-q", "docs", str(site), *session.posargs)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """ruff, as linter and as formatter; pyright, by which editors resolve imports."""
    _project(session)
    _run(session, "ruff", "check", ".")
    _run(session, "ruff", "format", "--check", ".")
    _run(session, "pyright", "--pythonpath", str(BIN / "python"))


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """mypy, strict, on the package and on studies."""
    _project(session)
    _run(session, "python", "-m", "mypy", "-p", "hydrogate", "-p", "studies")


@nox.session(venv_backend="none")
def fuzz(session: nox.Session) -> None:
    """Coverage-guided fuzzing of a reader: `-- sdf 20m`, `-- hdf5`, `-- params`, `-- student`, …; needs Linux."""
    _project(session)
    _run(session, "python", "-m", "pip", "install", "--quiet", "-e", ".[fuzz]")
    _run(session, "python", "tests/fuzz_readers.py", *session.posargs)


@nox.session(venv_backend="none")
def mutation(session: nox.Session) -> None:
    """Mutation testing of checks/: `-- gates judge`, `-- --sample 200 --seed 1`; resumable; needs Linux."""
    _project(session)
    _run(session, "python", "-m", "pip", "install", "--quiet", "-e", ".[mutation]")
    _run(session, "python", "tests/mutate_checks.py", *session.posargs)


@nox.session(reuse_venv=True)
def lowest(session: nox.Session) -> None:
    """The tests with the lowest versions that pyproject.toml allows; arguments go to pytest."""
    # Not `create_tmp`: it lays the tests' folders into this repository, and some are to lie outside of git and DVC.
    pins = session.cache_dir / "lowest.txt"
    session.install("uv")
    extras = ("--extra", "all", "--extra", "dev")
    session.run(
        "uv", "pip", "compile", "--quiet", "--resolution=lowest-direct", *extras, "pyproject.toml", "-o", str(pins)
    )
    # torch first, so that the build this machine offers is kept; the packages of CUDA are those of another build.
    lines = [line for line in pins.read_text().splitlines() if not line.startswith("nvidia-")]
    pins.write_text("\n".join(lines))
    session.install(*(line for line in lines if line.startswith("torch==")))
    session.install("-r", str(pins))
    session.install("--no-deps", "-e", ".")
    # Old libraries warn of what is newer beneath them; `tests` takes every warning for an error.
    session.run("python", "-m", "pytest", "-W", "default", *session.posargs)


@nox.session(venv_backend="none")
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of what is installed, asked of PyPI's advisories; arguments go to pip-audit."""
    _project(session)
    tool = ENVIRONMENT / "audit"
    _run(session, "python", "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(tool), "pip-audit")
    session.env["PYTHONPATH"] = str(tool)
    _run(session, "python", "-m", "pip_audit", "--local", "--skip-editable", *session.posargs)
