"""Tests of the kernel and profile benchmarks: measurement and output; no values are asserted."""

import json
from pathlib import Path

import pytest
import torch

from studies.benchmarks import kernels as bench
from studies.benchmarks import step_profile as profiling


def test_interleaved_ratios_are_taken_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    seconds = iter([1.0, 0.5, 4.0, 1.0])
    monkeypatch.setattr(bench, "seconds", lambda run: (run(), next(seconds))[1])
    contestants = {"base": lambda: calls.append("base"), "fast": lambda: calls.append("fast")}
    base, fast = bench.interleaved("group", contestants, {"base": 8, "fast": 8}, rounds=2)
    assert base.peak_mib == 0
    assert calls[-4:] == ["base", "fast", "base", "fast"]
    assert (base.ratio, base.least, base.greatest) == (1.0, 1.0, 1.0)
    assert (fast.ratio, fast.least, fast.greatest) == (3.0, 2.0, 4.0)
    assert fast.atoms_per_second == 12.0


def test_the_peak_is_what_is_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    kept = torch.zeros(2**18)

    def run() -> torch.Tensor:
        once = kept + 1
        twice = once * 2
        del once
        return (twice - 1).sum()

    assert bench.peak_mib(run) == pytest.approx(2.0, abs=0.01)


def test_the_ceiling_is_the_slower_of_products_and_memory() -> None:
    a, b = torch.randn(2, 8, 8)
    limits = {"GF/s": 1.0, "GB/s": 1.0}
    assert bench.roofline(lambda: a @ b, limits, [a, b]) == pytest.approx(1e9 / (2 * 8**3))
    assert bench.roofline(lambda: a @ b, limits | {"GB/s": 0.1}, [a, b]) == pytest.approx(1e8 / (2 * 8 * 8 * 4))


def test_what_cannot_run_is_said_and_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    two, threads = bench.structures(2), torch.get_num_threads()
    monkeypatch.setattr(bench, "structures", lambda count: two)
    assert bench.main(["quick"]) == 0
    torch.set_num_threads(threads)
    written = json.loads(Path("reports/benchmarks.json").read_text())
    assert "cuda: not_run: no CUDA device" in written["not_run"]
    assert not any(row["name"] == "triton" for row in written["rows"])
    for name in ("painn", "so3lr"):
        rows = [row for row in written["rows"] if row["group"].startswith(f"{name}, cpu, 1 thread, batch 8")]
        assert [row["name"] for row in rows] == ["eager", "kernels"] * 2
        assert all(row["least"] <= row["ratio"] <= row["greatest"] and row["ceiling"] > 0 for row in rows)
        assert all(row["peak_mib"] > 0 for row in rows)
    assert Path("reports/benchmarks.png").stat().st_size > 1000


def test_operations_are_grouped_by_what_bounds_them() -> None:
    assert profiling.group_of("aten::mm", [[40, 3], [3, 5]], 40) == "matrix products"
    assert profiling.group_of("aten::index_add", [[7, 3]], 40) == "gather and scatter"
    assert profiling.group_of("aten::mul", [[40, 3], [40, 1]], 40) == "elementwise on edges"
    assert profiling.group_of("aten::mul", [[7, 3], []], 40) == "elementwise on atoms"
    assert profiling.group_of("aten::detach", [], 40) == "other"


def test_the_shares_of_a_step_add_up() -> None:
    a = torch.randn(40, 8)
    shares = profiling.shares(lambda: (a @ a.T).sin().sum(), 40, {"GF/s": 100.0, "GB/s": 10.0}, 2)
    assert abs(sum(share.share for share in shares) - 1) < 1e-6
    assert {"matrix products", "elementwise on edges"} <= {share.group for share in shares}
