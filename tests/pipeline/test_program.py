"""Exit status and messages of a stage."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hydrogate.checks import ContractViolation
from hydrogate.checks.errors import BadParams
from hydrogate.pipeline.program import progress_bar, stage_exit_status
from hydrogate.pipeline.storage.hdf5 import UnreadableFile


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        (ContractViolation("contract labels, check finite: …"), 1, "contract labels, check finite"),
        (BadParams("params.yaml: train.epochs"), 2, "BadParams: params.yaml: train.epochs"),
        (UnreadableFile("a.sdf: empty"), 2, "a.sdf: empty"),
        (FileNotFoundError("a.h5: no such file"), 2, "a.h5: no such file"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "No space left on device; free disk space and run"),
        (OSError(errno.EROFS, "Read-only file system", "a.ok"), 2, "'a.ok'; make its folder writable and run the"),
        # The file may have been opened for reading or for writing.
        (
            PermissionError(errno.EACCES, "Permission denied", "a.h5"),
            2,
            "make it readable, or its folder writable, and run",
        ),
        (
            PermissionError(errno.EPERM, "Operation not permitted", "a.h5"),
            2,
            "or its folder writable, and run the same",
        ),
        (KeyboardInterrupt(), 130, "run the same command again"),
        (ModuleNotFoundError("No module named 'dvc'", name="dvc"), 2, "'hydrogate[pipeline]'"),
        (ModuleNotFoundError("No module named 'great_expectations'", name="great_expectations"), 2, "'hydrogate[gx]'"),
        (ModuleNotFoundError("No module named 'dask.array'", name="dask.array"), 2, "dask is not installed"),
        (BadParams("evil\x1b[2J.h5: \u202e"), 2, "BadParams: evil\ufffd[2J.h5: \ufffd"),
    ],
)
def test_a_refusal_is_1_and_what_cannot_be_used_2(
    fault: BaseException, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> int:
        raise fault

    assert stage_exit_status(main) == status
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("fault", [ZeroDivisionError(), ModuleNotFoundError(name="hydrogate.nowhere")])
def test_a_fault_of_the_program_keeps_its_traceback(fault: Exception) -> None:
    def main() -> int:
        raise fault

    with pytest.raises(type(fault)):
        stage_exit_status(main)


def test_off_a_terminal_the_bar_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("label", total=3, unit="structures") as advance:
        advance(3)
    assert capsys.readouterr().err == "label: 3 structures\n"


@pytest.mark.parametrize("module", ["typer", "hydrogate.checks", "h5py"])
def test_ctrl_c_while_the_command_is_imported_is_one_line(module: str) -> None:
    code = f"""
import signal, sys
sys.addaudithook(
    lambda event, of: signal.raise_signal(signal.SIGINT) if event == "import" and of[0] == {module!r} else None
)
from hydrogate.pipeline.entry import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "interrupted before anything was done\n")


@pytest.mark.parametrize(
    ("stage", "module"), [("stages.train", "torch"), ("stages.guard", "h5py"), ("stages.check", "hydrogate.checks")]
)
def test_ctrl_c_while_a_stage_is_imported_is_one_line(stage: str, module: str, tmp_path: Path) -> None:
    hook = f"""
import signal, sys
sys.addaudithook(
    lambda event, of: signal.raise_signal(signal.SIGINT) if event == "import" and of[0] == {module!r} else None
)
"""
    (tmp_path / "sitecustomize.py").write_text(hook)
    ended = subprocess.run(
        [sys.executable, "-m", f"hydrogate.pipeline.{stage}"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (130, "interrupted before anything was done\n")


def test_who_imports_the_pipeline_keeps_the_traceback_of_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import hydrogate.pipeline\nraise KeyboardInterrupt\n")
    for call in (["mine.py"], ["-m", "mine"]):
        ended = subprocess.run([sys.executable, *call], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert "Traceback" in ended.stderr
