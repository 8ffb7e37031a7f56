"""Sessions of this project; `nox -l` lists them."""

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
    """Install the project with all extras in one environment for all sessions: they need the same 2 GB of packages."""
    session.env["PATH"] = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    session.env["DVC_NO_ANALYTICS"] = "1"
    session.env["GX_ANALYTICS_ENABLED"] = "false"
    # On a busy machine, spinning OpenMP threads turn microseconds into milliseconds.
    session.env["OMP_WAIT_POLICY"] = "PASSIVE"
    stamp, wanted = ENVIRONMENT / "installed", hashlib.sha256(Path("pyproject.toml").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if not ENVIRONMENT.exists():
        session.run("python", "-m", "venv", str(ENVIRONMENT), external=True)
    # torch first, so that the build that this machine offers is kept.
    _run(session, "python", "-m", "pip", "install", "--quiet", TORCH)
    _run(session, "python", "-m", "pip", "install", "--quiet", "-e", ".[all,dev]")
    stamp.write_text(wanted)


def _run(session: nox.Session, program: str, *arguments: str, may_fail: bool = False) -> bool:
    codes = range(256) if may_fail else (0,)
    return bool(session.run(str(BIN / program), *arguments, success_codes=codes, external=True))


@nox.session(venv_backend="none")
def repro(session: nox.Session) -> None:
    """Run `dvc repro` on the input that params.yaml names (`-- -S KEY=VALUE`: `dvc exp run`), then decide."""
    _project(session)
    command = ["exp", "run", *session.posargs] if session.posargs else ["repro"]
    _run(session, "dvc", *command, may_fail=True)
    # Always decide, also after a failure: a broken branch must not show the last good milestone. Blocked fails.
    _run(session, "hydrogate", "decide")


@nox.session(venv_backend="none")
def hydrogate(session: nox.Session) -> None:
    """Run the command `hydrogate` in the project's environment: `-- plan`, `-- sample --count 100`."""
    _project(session)
    _run(session, "hydrogate", *session.posargs)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the tests on all cores; arguments go to pytest: `-- -m "not slow"`, `-- tests/checks -n 0`."""
    _project(session)
    _run(session, "python", "-m", "pytest", "-n", "auto", "--dist", "loadfile", *session.posargs)


@nox.session(venv_backend="none")
def checks(session: nox.Session) -> None:
    """Run all contracts and gates on local data, no training; writes reports/; arguments go to `hydrogate review`."""
    _project(session)
    _run(session, "hydrogate", "review", *session.posargs)


@nox.session(venv_backend="none")
def browser(session: nox.Session) -> None:
    """Test the HTML report in headless Chromium, which must be installed (Debian: `apt-get install chromium`)."""
    _project(session)
    _run(session, "python", "-m", "pip", "install", "--quiet", "-e", ".[browser]")
    _run(session, "python", "-m", "pytest", "tests/browser", *session.posargs)


@nox.session(venv_backend="none")
def pymol(session: nox.Session) -> None:
    """Test the scripts of `hydrogate visualize` in PyMOL; installs Debian's `pymol` if missing (needs root)."""
    _project(session)
    if shutil.which("pymol") is None:
        session.run("apt-get", "install", "--yes", "pymol", external=True)
    _run(session, "python", "-m", "pytest", "tests/pymol", *session.posargs)
    if Path("data/predictions.h5").exists():
        _run(session, "hydrogate", "visualize", "-o", "reports/pymol", "--count", "5")


@nox.session(venv_backend="none")
def benchmarks(session: nox.Session) -> None:
    """Measure speed as ratios, side by side: `-- student` (the trained one beside its teacher, for two gates),
    `-- models`, `-- contracts` or `-- labelling` alone, `-- quick` for a short run.

    `-- profile` shows the time of a student's step by operation instead, `-- scale` the memory and time of data sets
    of any size (docs/scale.md); `-- compiled` adds the compiled training step.
    """
    _project(session)
    modules = {"student": "student", "contracts": "contracts", "labelling": "labelling", "models": "kernels"}
    others = {"profile": "step_profile", "scale": "scale"}
    asked = [word for word in session.posargs if word in modules | others]
    how = [word for word in session.posargs if word not in asked]
    for name in asked or modules:
        # `compiled` belongs to the models, also where all benchmarks run; each one rejects unknown arguments itself.
        own = [word for word in how if asked or name == "models" or word.lstrip("-") != "compiled"]
        _run(session, "python", "-m", f"studies.benchmarks.{(modules | others)[name]}", *own)


@nox.session(venv_backend="none")
def study(session: nox.Session) -> None:
    """Compare settings of the pipeline as DVC experiments in a clone: `-- milestone`; resumable.

    `-- angular` compares the angular loss (docs/angular-loss.md); `-- angular --seeds 0 -S train.epochs=1` for a
    short run.
    """
    _project(session)
    _run(session, "python", "-m", "studies.study", *session.posargs)


@nox.session(venv_backend="none")
def sampling(session: nox.Session) -> None:
    """Compare samplings of geometries (docs/sampling.md); `-- --molecules 100 --seeds 0` for a short run."""
    _project(session)
    _run(session, "python", "-m", "studies.sampling_study", *session.posargs)


@nox.session(venv_backend="none")
def atlas(session: nox.Session) -> None:
    """Measure what data corruptions cost and who finds them (docs/atlas.md); resumable; `-- quick` for a short run.

    `-- detection` or `-- damage` alone; `-- publish` writes the page from the measurements.
    """
    _project(session)
    _run(session, "python", "-m", "studies.atlas", *session.posargs)


@nox.session(venv_backend="none")
def benchmarks_peers(session: nox.Session) -> None:
    """Compare other people's models with the students, each in its own environment: speed, and time to an accuracy.

    `-- quick`: inference at batch 8, two rounds; `-- accuracy`: the time to an accuracy alone. After `repro`.
    """
    _project(session)
    _run(session, "python", "-m", "studies.benchmarks.peers", *session.posargs)


@nox.session(reuse_venv=True)
def docs(session: nox.Session) -> None:
    """Build the docs as a site with an API reference: reports/site/index.html; a warning is an error.

    A page outside of every table of contents, a dead link or anchor, and anything that a browser would fetch from
    elsewhere fail the build. Once installed, it needs no network.
    """
    session.install(*nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]["docs"])
    site = Path("reports/site")
    shutil.rmtree(site, ignore_errors=True)
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "-q", "docs", str(site), *session.posargs)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Run ruff as linter and formatter, and pyright, by which editors resolve imports."""
    _project(session)
    _run(session, "ruff", "check", ".")
    _run(session, "ruff", "format", "--check", ".")
    _run(session, "pyright", "--pythonpath", str(BIN / "python"))


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Run mypy, strict, on the package and on studies."""
    _project(session)
    _run(session, "python", "-m", "mypy", "-p", "hydrogate", "-p", "studies")


@nox.session(venv_backend="none")
def fuzz(session: nox.Session) -> None:
    """Fuzz a reader, guided by coverage: `-- sdf 20m`, `-- hdf5`, `-- params`, `-- student`, …; needs Linux."""
    _project(session)
    _run(session, "python", "-m", "pip", "install", "--quiet", "-e", ".[fuzz]")
    _run(session, "python", "tests/fuzz_readers.py", *session.posargs)


@nox.session(venv_backend="none")
def mutation(session: nox.Session) -> None:
    """Test checks/ by mutation: `-- gates judge`, `-- --sample 200 --seed 1`; resumable; needs Linux."""
    _project(session)
    _run(session, "python", "-m", "pip", "install", "--quiet", "-e", ".[mutation]")
    _run(session, "python", "tests/mutate_checks.py", *session.posargs)


@nox.session(reuse_venv=True)
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest versions that pyproject.toml allows; arguments go to pytest."""
    # Not `create_tmp`: it puts the tests' folders into this repository, and some must lie outside of git and DVC.
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
    # Old libraries warn about newer ones beneath them; session `tests` turns every warning into an error.
    session.run("python", "-m", "pytest", "-W", "default", *session.posargs)


@nox.session(venv_backend="none")
def audit(session: nox.Session) -> None:
    """Look up known vulnerabilities of the installed packages in PyPI's advisories; arguments go to pip-audit."""
    _project(session)
    tool = ENVIRONMENT / "audit"
    _run(session, "python", "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(tool), "pip-audit")
    session.env["PYTHONPATH"] = str(tool)
    _run(session, "python", "-m", "pip_audit", "--local", "--skip-editable", *session.posargs)
