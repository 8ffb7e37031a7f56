"""A contestant in a process of its own, and the rounds in which each runs once, in turn, while the others wait."""

import json
import os
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

# One thread each; spinning ones would take the core from the contestant whose turn it is.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


class ContestantDied(RuntimeError):
    """Its process ended before it answered; the message says how, and the last that it printed."""


class Contestant:
    """A worker's process; end it by leaving the ``with`` block.

    Parameters
    ----------
    command : sequence of str
        A worker as `studies.peer_models._worker` has it.
    log : pathlib.Path
        Where what it prints goes.
    environment : mapping, optional
        Variables beside those of this process.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self._log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", **ONE_THREAD, **(environment or {})},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to ``command``.

        Raises
        ------
        ContestantDied
            There is none.
        """
        try:
            assert self._process.stdin is not None
            print(json.dumps(dict(command)), file=self._process.stdin, flush=True)
        except OSError:
            raise self._died() from None
        return self._answer()

    def learn(self, command: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The answers to ``command`` up to the one that says that it is done.

        Raises
        ------
        ContestantDied
            There is none.
        """
        answer = self.ask(command)
        while "done" not in answer:
            yield answer
            answer = self._answer()
        yield answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _died(self) -> ContestantDied:
        status = self._process.wait()
        lines = self._log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
        return ContestantDied(f"its process ended with exit status {status}: {lines[-1]}")


class Speed(NamedTuple):
    """Atoms a CPU-second, median over the rounds, and how many times as fast the first contestant is.

    Parameters
    ----------
    what : str
        ``inference`` or ``training``.
    batch : int
        Structures.
    name : str
        The contestant.
    atoms_per_second : float
    ratio, least, greatest : float
        The first contestant's speed over this one's in the same round: median and extremes.
    """

    what: str
    batch: int
    name: str
    atoms_per_second: float
    ratio: float
    least: float
    greatest: float


def interleaved(
    contestants: Mapping[str, Contestant], what: str, batch: int, file: Path, rounds: int, at_least: float
) -> tuple[list[Speed], dict[str, str]]:
    """Each contestant once a round, after one round that is not counted; and why some do not run, by their names.

    Raises
    ------
    ContestantDied
        The first, to which the others are compared, did not answer.
    """
    command = {"do": "round", "what": what, "batch": batch, "file": str(file), "at_least": at_least}
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    absent: dict[str, str] = {}
    for _ in range(rounds + 1):
        for name, contestant in contestants.items():
            if name in absent:
                continue
            try:
                answer = contestant.ask(command)
            except ContestantDied as reason:
                if name == next(iter(contestants)):
                    raise
                absent[name] = str(reason)
                continue
            speeds[name].append(answer["atoms"] / answer["seconds"])
    first = speeds[next(iter(contestants))][1:]
    rows = []
    for name, of in speeds.items():
        if name not in absent:
            ratios = [base / own for base, own in zip(first, of[1:], strict=True)]
            spread = (statistics.median(ratios), min(ratios), max(ratios))
            rows.append(Speed(what, batch, name, statistics.median(of[1:]), *spread))
    return rows, absent
