"""Tests that benchmarks accept arguments with or without dashes and reject unknown ones before they measure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hydrogate.models.names import UnknownName, words

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = [
    f"studies.benchmarks.{path.stem}"
    for path in sorted((ROOT / "studies/benchmarks").glob("*.py"))
    if path.stem not in ("__init__", "measure", "own_students")  # own_students is a worker started by peers
]


def test_words_count_with_and_without_dashes_and_others_are_refused() -> None:
    assert words(["--quick"], ("quick", "compiled")) == words(["quick"], ("quick",)) == {"quick"}
    assert words([], ("quick",)) == set()
    with pytest.raises(UnknownName, match=r"^unknown word 'quik'; did you mean 'quick'\?$"):
        words(["--quik"], ("quick", "compiled"))


@pytest.mark.parametrize("module", BENCHMARKS)
def test_a_misspelt_word_starts_no_benchmark(module: str, tmp_path: Path) -> None:
    called = [sys.executable, "-m", module, "--quik"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # studies are not installed
    done = subprocess.run(
        called, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown word 'quik'; did you mean 'quick'?" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
