"""Worker pools: processes on this machine, a running Dask scheduler, or jobs of a batch system.

``python -m hydrogate.pipeline.workers.pool`` prints the job script for the settings ``compute`` in params.yaml.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature
from itertools import islice
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, TypeVar

from hydrogate.checks.errors import BadParams, did_you_mean
from hydrogate.pipeline.params import Compute, load_params
from hydrogate.pipeline.program import stage_exit_status

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 30  # timeout for a scheduler or its first worker, s
# Chunks that the scheduler holds at once, finished or not: enough that no worker idles, few enough that its memory does
# not grow with the total number of chunks.
CHUNKS_PER_THREAD = 4
LEAST_CHUNKS = 64
RECOUNT = 5.0  # interval between two counts of the workers, s

Item = TypeVar("Item")
Result = TypeVar("Result")
SETTINGS = {
    # Errors in a task are returned with its result; a worker's own log is about its connections.
    "logging.distributed": "critical",
    # For local processes, which read their settings before they receive any.
    "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical",
    # Retry broken connections.
    "distributed.comm.retry.count": 5,
    # Periodic tasks of each idle process, up to 100 times per second: together 5 % of a core, with these settings 1 %.
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.scheduler.work-stealing-interval": "1s",
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}


@contextmanager
def connected(compute: Compute, workers: int, *, tasks: int) -> Iterator["Client"]:
    """Return a client of the workers that ``compute`` specifies.

    If it specifies none, start ``workers`` local processes (0: one per core), at most as many as ``tasks``.

    Raises
    ------
    BadParams
        No scheduler responds or it has no worker; or the cluster or its arguments are invalid.
    """
    import dask
    from dask.system import CPU_COUNT
    from distributed import Client, LocalCluster  # imported in the block below, it would lose its defaults afterwards
    from distributed.utils import silence_logging_cmgr

    with dask.config.set(SETTINGS):
        if compute.scheduler:
            with at(compute.scheduler) as client:
                yield client
            return
        stack = ExitStack()
        try:
            with _ctrl_c_held_back():
                if compute.cluster:
                    cluster = stack.enter_context(_jobs(compute))
                    # The batch system restarts jobs that end before the work is finished.
                    cluster.adapt(minimum_jobs=compute.jobs, maximum_jobs=compute.jobs)
                else:
                    cluster = stack.enter_context(
                        LocalCluster(
                            n_workers=min(workers or CPU_COUNT, tasks),
                            threads_per_worker=1,
                            processes=True,
                            host="127.0.0.1",
                            dashboard_address="127.0.0.1:0",
                        )
                    )
                client = stack.enter_context(Client(cluster, set_as_default=False))
            yield client
        finally:
            # Silence messages about the termination of workers that are busy or still starting.
            with _ctrl_c_held_back(), silence_logging_cmgr("critical"):
                stack.close()


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Defer Ctrl-C until the block ends, which takes seconds and must not be interrupted.

    A terminal sends Ctrl-C to every process. Processes and threads started in the block never receive it: this process
    terminates the workers, and a worker that dies is restarted by a thread that was started here.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield  # other threads do not receive Ctrl-C, and Windows cannot defer it
        return
    resource_tracker.ensure_running()  # it unblocks Ctrl-C when it starts, so start it first
    came: list[int] = []
    # Another thread, such as that of a progress bar, may receive the signal.
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def at(address: str, option: str = "compute.scheduler") -> Iterator["Client"]:
    """Return a client of the Dask scheduler at ``address``; ``option`` is where the address was given.

    Raises
    ------
    BadParams
        No scheduler responds, or it has no worker.
    """
    import dask
    from distributed import Client

    with dask.config.set({**SETTINGS, "distributed.comm.timeouts.connect": PATIENCE}):
        try:
            client = Client(address, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise BadParams(f"{option} {address}: no Dask scheduler responds at this address ({error})") from error
        with client:
            try:
                client.wait_for_workers(1, timeout=PATIENCE)
            except TimeoutError as error:
                raise BadParams(f"{option} {address}: no worker; start one with `dask worker`") from error
            yield client


def _jobs(compute: Compute) -> Any:
    """Return the dask-jobqueue cluster ``compute.cluster``, without jobs yet."""
    import dask_jobqueue

    known = {name: kind for name, kind in vars(dask_jobqueue).items() if name.endswith("Cluster")}
    if compute.cluster not in known or compute.cluster == "JobQueueCluster":
        known.pop("JobQueueCluster")
        near = [name for name in known if name.lower() == str(compute.cluster).lower()] or known
        raise BadParams(f"compute.cluster: unknown cluster {compute.cluster!r}{did_you_mean(compute.cluster, near)}")
    kind = known[compute.cluster]
    takes = {name for of in (*kind.__mro__, *kind.job_cls.__mro__) for name in signature(of.__init__).parameters}
    for name in compute.arguments:
        if name not in takes - {"self", "args", "kwargs", "job_kwargs", "base_class_kwargs"}:
            raise BadParams(f"compute.arguments: {compute.cluster} has no argument {name!r}{did_you_mean(name, takes)}")
    options = {"dashboard_address": ":0", **compute.arguments.get("scheduler_options", {})}
    try:
        return kind(**{**compute.arguments, "scheduler_options": options})
    except (TypeError, ValueError) as error:
        raise BadParams(f"compute.arguments of {compute.cluster}: {error}") from error


def over_workers(
    client: "Client",
    function: Callable[[Sequence[Item]], Result],
    chunks: Iterable[Sequence[Item]],
    *,
    lost: Callable[[Item], Result] | None = None,
) -> Iterator[list[tuple[int, Result]]]:
    """Apply ``function`` to each chunk; yield lists of (chunk index, result) as chunks finish.

    A chunk is taken from ``chunks`` only when the scheduler has room for it. A chunk whose workers died is repeated at
    the end, item by item, so that one bad item affects neither its neighbours nor the rest.

    Parameters
    ----------
    function : callable
        Importable by name in a worker process.
    lost : callable, optional
        Returns the result for an item whose worker died while that item was its only work.

    Raises
    ------
    RuntimeError
        The scheduler closed, or the workers died and ``lost`` is not given.
    Exception
        Any exception of ``function``.
    """
    from distributed import CancelledError, as_completed
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import KilledWorker

    waiting = enumerate(chunks)
    held: dict[Any, tuple[int, Sequence[Item]]] = {}
    suspects: list[tuple[int, Sequence[Item]]] = []
    alone: Any = None
    ended = as_completed(loop=client.loop)
    room, counted = 0, -RECOUNT

    def submit(some: Sequence[tuple[int, Sequence[Item]]]) -> None:
        futures = client.map(function, [chunk for _, chunk in some], pure=False) if some else []
        held.update(zip((future.key for future in futures), some, strict=True))
        ended.update(futures)

    while True:
        if time.monotonic() - counted > RECOUNT:
            room = max(LEAST_CHUNKS, CHUNKS_PER_THREAD * sum(client.nthreads().values()))
            counted = time.monotonic()
        submit(list(islice(waiting, max(0, room - len(held)))))
        if not held and not suspects:
            return
        if not held:
            index, (item, *others) = suspects.pop()
            suspects += [(index, others)] if others else []
            submit([(index, [item])])
            (alone,) = held
        results = []
        for future in ended.next_batch():
            index, chunk = held.pop(future.key)
            try:
                # Recomputed if the worker that held it has died in the meantime.
                results.append((index, future.result()))
            except KilledWorker as error:
                if lost is None:
                    raise RuntimeError(f"the worker processes died: {error}") from error
                if future.key == alone:
                    results.append((index, lost(chunk[0])))
                else:
                    suspects.append((index, chunk))
            except (CancelledError, CommClosedError) as error:
                raise RuntimeError(
                    "the Dask scheduler closed; the results computed so far are kept; run the same command again"
                ) from error
            future.release()
        yield results


def over_processes(
    function: Callable[[Sequence[Item]], Result], chunks: Sequence[Sequence[Item]], *, workers: int = 0
) -> Iterator[tuple[int, Result]]:
    """Run :func:`over_workers` on this machine with ``workers`` single-threaded processes (0: one per core).

    Raises
    ------
    Exception
        Any exception of ``function``.
    """
    if not chunks:
        return
    with connected(Compute(), workers, tasks=len(chunks)) as client:
        for results in over_workers(client, function, chunks):
            yield from results


def main(argv: Sequence[str] | None = None) -> int:
    """Print the job script. Exit status: 0 printed, 2 ``compute`` in params.yaml specifies no valid cluster."""
    compute = load_params().compute
    if not compute.cluster:
        raise BadParams("compute.cluster is null; set it to a class of dask-jobqueue, such as SLURMCluster")
    with _jobs(compute) as cluster:
        print(cluster.job_script())
    return 0


if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
