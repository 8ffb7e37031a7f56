"""Client for contestants in separate processes, and interleaved rounds in which one runs while the others wait."""

import json
import os
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

# One thread each; spinning threads would take the core from the contestant that is being timed.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


class ContestantDied(RuntimeError):
    """Raised if a process ends before it answers; the message has its exit status and its last line of output."""


class Contestant:
    """Context manager for a worker process, which is killed on exit.

    Parameters
    ----------
    command : sequence of str
        Command that starts a worker, as in `studies.peer_models._worker`.
    log : pathlib.Path
        File for its standard error.
    environment : mapping, optional
        Environment variables to add to those of this process.
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
        """Return the answer to ``command``.

        Raises
        ------
        ContestantDied
            The process ended without an answer.
        """
        try:
            assert self._process.stdin is not None
            print(json.dumps(dict(command)), file=self._process.stdin, flush=True)
        except OSError:
            raise self._died() from None
        return self._answer()

    def learn(self, command: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the answers to ``command``, up to and including the one with the key ``done``.

        Raises
        ------
        ContestantDied
            The process ended without an answer.
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
        lines = self._log.read_text(errors="replace").strip().splitlines() or ["no output"]
        return ContestantDied(f"its process ended with exit status {status}: {lines[-1]}")


class Speed(NamedTuple):
    """Atoms per CPU-second, median over the rounds, and the speedup of the first contestant over this one.

    Parameters
    ----------
    what : str
        ``inference`` or ``training``.
    batch : int
        Number of structures.
    name : str
        Name of the contestant.
    atoms_per_second : float
    ratio, least, greatest : float
        Speed of the first contestant divided by that of this one in the same round: median, minimum and maximum.
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
    """Run each contestant once per round, after a warm-up round; also return why some do not run, by name.

    Raises
    ------
    ContestantDied
        The first contestant, the reference of the ratios, did not answer.
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
