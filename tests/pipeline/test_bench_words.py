"""Every benchmark takes its words with or without dashes, and refuses the others before it measures."""

import subprocess
import sys
from pathlib import Path

import pytest

from hydrogate.models import UnknownName, words

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ["hydrogate.models.bench", "hydrogate.models.profiling"] + [
    f"hydrogate.pipeline.{path.stem}"
    for path in sorted((ROOT / "pipeline").glob("bench_*.py"))
    if path.stem != "bench_own"  # a contestant of bench_peers, which it starts
]


def test_words_count_with_and_without_dashes_and_others_are_refused() -> None:
    assert words(["--quick"], ("quick", "compiled")) == words(["quick"], ("quick",)) == {"quick"}
    assert words([], ("quick",)) == set()
    with pytest.raises(UnknownName, match=r"^unknown word 'quik'; did you mean 'quick'\?$"):
        words(["--quik"], ("quick", "compiled"))


@pytest.mark.parametrize("module", BENCHMARKS)
def test_a_misspelt_word_starts_no_benchmark(module: str, tmp_path: Path) -> None:
    called = [sys.executable, "-m", module, "--quik"]
    done = subprocess.run(called, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown word 'quik'; did you mean 'quick'?" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
