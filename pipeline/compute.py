"""Per-structure work over processes, through Dask's scheduler."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def over_processes(
    function: Callable[[Sequence[Item]], Result], chunks: Sequence[Sequence[Item]], *, workers: int = 0
) -> Iterator[tuple[int, Result]]:
    """``function`` of each chunk, as they end: the chunk's index and its result.

    Parameters
    ----------
    function : callable
        Importable by name in a worker process.
    workers : int
        Processes, one thread each; 0 is one a core.

    Raises
    ------
    Exception
        Whatever ``function`` raised.
    """
    import dask
    from distributed import Client, LocalCluster, as_completed

    if not chunks:
        return
    count = min(workers or os.cpu_count() or 1, len(chunks))
    # What goes wrong in a task comes back with its result; a worker's own log is about its connections.
    quiet = dask.config.set({"logging.distributed": "critical"})
    with (
        quiet,
        LocalCluster(n_workers=count, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        futures = client.map(function, chunks, pure=False)
        index_of = {future.key: index for index, future in enumerate(futures)}
        for future, result in as_completed(futures, with_results=True):
            yield index_of[future.key], result
            future.release()
