"""Checks on the parts of a data set on the workers of a running Dask scheduler; the workers also merge the answers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, TypeVar

from hydrogate.checks.engine.mergeable import merged
from hydrogate.checks.engine.partition import Gather
from hydrogate.checks.errors import UnreadableData
from hydrogate.pipeline.workers.pool import at

if TYPE_CHECKING:
    from distributed import Client

# Answers merged by one task: with a tree of such tasks, neither a worker nor this process holds those of all parts.
FAN_IN = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def cluster(address: str) -> Iterator[Gather]:
    """Return a ``Gather`` that uses the workers of the Dask scheduler at ``address``.

    If a worker dies, Dask reruns its parts on the others.

    Raises
    ------
    BadParams
        No scheduler responds, or it has no worker.
    """
    with at(address, "--scheduler") as client:
        yield partial(_over_cluster, client)


def _over_cluster(client: "Client", question: Callable[[Item], Result], items: Sequence[Item]) -> Result:
    asked = client.submit(_itself, question, pure=False)
    answers: Sequence[Any] = client.map(_on_worker, items, question=asked, pure=False)
    while len(answers) > 1:
        some = [answers[start : start + FAN_IN] for start in range(0, len(answers), FAN_IN)]
        answers = [client.submit(_all_merged, group, pure=False) for group in some]
    result: Result = answers[0].result()
    return result


def _itself(question: Item) -> Item:
    """Return ``question``: as a task of its own, a large question is sent once to each worker, not with each part."""
    return question


def _on_worker(item: Item, question: Callable[[Item], Result]) -> Result:
    from distributed import get_worker

    try:
        return question(item)
    except (OSError, UnreadableData) as error:
        raise UnreadableData(f"{error} (worker {get_worker().address}; can all workers read the files?)") from error


def _all_merged(answers: Sequence[Result]) -> Result:
    return reduce(merged, answers)
