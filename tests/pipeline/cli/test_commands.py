"""Commands that a decision or a plan can print, parsed by the program that would run them: nox, DVC, hydrogate, git."""

import re
import runpy
import shlex
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import nox.registry
import numpy as np
import pytest
import typer
import yaml
from dvc.cli.parser import get_main_parser
from dvc.utils.hydra import apply_overrides

from hydrogate.checks.gates.milestones import MORE_DATA_COMMAND, SHOW_PARAMS
from hydrogate.models.potential import Support
from hydrogate.models.students import make_student
from hydrogate.pipeline import cli
from hydrogate.pipeline.decision import decide
from hydrogate.pipeline.decision.committed_metrics import REPRO
from hydrogate.pipeline.params import load_params

ROOT = Path(__file__).parents[3]
SHIPPED = load_params(ROOT / "params.yaml")
BLOCKERS = {REPRO, SHOW_PARAMS, decide.COMPARE_AGAIN, decide.show_command("baseline/predictions.h5")}
COMMANDS = sorted(
    {gate.command for gate in SHIPPED.gates.values()}
    | {band.command for band in SHIPPED.milestones}
    | {decide.check_command(contract) for contract in decide.DATA_OF}
    | BLOCKERS
    | {MORE_DATA_COMMAND}
)
PARTS = sorted({part.strip() for command in COMMANDS for part in command.split("&&")})


@pytest.fixture(scope="module")
def sessions():
    """Nox sessions of the noxfile."""
    runpy.run_path(str(ROOT / "noxfile.py"))
    return nox.registry.get()


def test_the_commands_of_the_milestones_are_those_of_the_table():
    commands = {band.milestone: band.command for band in SHIPPED.milestones}
    assert commands["pivot_so3lr"] == "python3 -m nox -s repro -- -S train.student=so3lr"
    assert commands["m4_cuda_optimization"] == "python3 -m nox -s benchmarks"


@pytest.mark.parametrize("command", PARTS)
def test_a_command_is_read_by_the_program_that_runs_it(command, sessions, tmp_path):
    words = shlex.split(command)
    if words[0] == "git":
        subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *author, "commit", "-qm", "a", "--allow-empty"], cwd=tmp_path, check=True)
        shutil.copy(ROOT / words[-1], tmp_path)
        assert subprocess.run(words, cwd=tmp_path, check=False).returncode == 0
        return
    assert words[:4] == ["python3", "-m", "nox", "-s"]
    session, arguments = words[4], words[6:]
    assert session in sessions
    assert words[5:6] in ([], ["--"])
    match session:
        case "repro":
            check_repro(arguments, tmp_path)
        case "hydrogate":
            check_hydrogate(arguments)
        case "benchmarks":
            assert arguments in ([], ["student"])
            assert find_spec("studies.benchmarks.student")
        case _:
            assert not arguments


def check_repro(arguments, folder):
    """Check that DVC has the options and stages, and that the parameters exist and accept these values."""
    if not arguments:
        return
    read = get_main_parser().parse_args(["exp", "run", *arguments])
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert set(read.targets) <= set(stages)
    path = folder / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    for change in read.set_param:
        value = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        for key in change.partition("=")[0].split("."):
            assert key in value, change
            value = value[key]
    apply_overrides(path, read.set_param)
    train = load_params(path).train
    student = make_student(train.student, train.size, Support((1, 6, 7, 8), (0,), (1,)))
    assert np.isfinite(student.cutoff)


def check_hydrogate(arguments):
    """Check that the command exists and accepts these options."""
    commands = typer.main.get_command(cli.app).commands
    assert arguments[0] in commands
    context = commands[arguments[0]].make_context(arguments[0], arguments[1:])
    assert context.params


def test_every_session_that_is_named_anywhere_exists(sessions):
    texts = [path for folder in ("checks", "pipeline", "docs") for path in (ROOT / folder).rglob("*") if path.is_file()]
    texts = [
        path for path in [*texts, ROOT / "README.md", ROOT / "params.yaml"] if path.suffix in (".py", ".md", ".yaml")
    ]
    named = {name for path in texts for name in re.findall(r"nox -s (\w+)", path.read_text(encoding="utf-8"))}
    assert {"repro", "hydrogate", "benchmarks"} <= named
    assert named <= set(sessions)
