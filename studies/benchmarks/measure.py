"""Measurement helpers of the benchmarks: time of a call, and peak throughput of this machine."""

import time
from collections.abc import Callable

import torch


def seconds(run: Callable[[], object]) -> float:
    """Time ``run``: CPU-seconds with one thread, so that other load does not matter; otherwise wall-clock seconds."""
    cuda = torch.cuda.is_available()
    clock = time.process_time if torch.get_num_threads() == 1 and not cuda else time.perf_counter
    start = clock()
    run()
    if cuda:
        torch.cuda.synchronize()
    return clock() - start


def ceilings(device: str) -> dict[str, float]:
    """Measure GF/s of a float32 matrix product and GB/s of a sum of two long vectors, the best of five."""
    a = torch.randn(1024, 1024, device=device)
    x, y = torch.randn(2, 2**24, device=device)
    total = torch.empty_like(x)
    a @ a
    product = min(seconds(lambda: a @ a) for _ in range(5))
    addition = min(seconds(lambda: torch.add(x, y, out=total)) for _ in range(5))
    return {"GF/s": 2 * 1024**3 / product / 1e9, "GB/s": 3 * 4 * 2**24 / addition / 1e9}
