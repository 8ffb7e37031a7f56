"""Worker pools: few chunks at once, results even if workers die, job scripts as submitted."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import dask
import pytest
import yaml
from distributed import Client, LocalCluster
from pydantic import ValidationError

from hydrogate.checks.errors import BadParams
from hydrogate.pipeline.params import Compute
from hydrogate.pipeline.workers import pool as compute
from hydrogate.pipeline.workers.pool import connected, over_processes, over_workers

ROOT = Path(__file__).resolve().parents[3]
JOBS = {"cores": 2, "processes": 2, "memory": "4GB", "walltime": "02:00:00", "scheduler_options": {"host": "127.0.0.1"}}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0, "logging.distributed": "critical"}),
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster, set_as_default=False) as one,
    ):
        yield one


def test_chunks_are_taken_as_there_is_room_for_them(client: Client) -> None:
    taken, done, most = 0, 0, 0

    def chunks() -> Iterator[list[int]]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield [number]

    results: dict[int, int] = {}
    for some in over_workers(client, sum, chunks()):
        most = max(most, taken - done)
        done += len(some)
        results |= dict(some)
    assert results == {number: number for number in range(1000)}
    assert 8 < most <= compute.LEAST_CHUNKS
    # The scheduler has released them.
    assert len(client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))) <= compute.LEAST_CHUNKS


def test_an_error_of_the_function_is_the_callers(client: Client) -> None:
    def refuse(chunk: Sequence[int]) -> int:
        raise ValueError(f"no {chunk}")

    with pytest.raises(ValueError, match=r"no \[1, 2\]"):
        list(over_workers(client, refuse, [[1, 2]]))


def test_the_item_that_kills_its_worker_is_told_from_its_neighbours(client: Client) -> None:
    def deadly(chunk: Sequence[int]) -> list[int]:
        if 5 in chunk:
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
        return list(chunk)

    chunks = [[1, 2], [3, 4, 5, 6], [7]]
    results = [result for some in over_workers(client, deadly, chunks, lost=lambda item: [-item]) for result in some]
    assert sorted(item for _, items in results for item in items) == [-5, 1, 2, 3, 4, 6, 7]
    assert {index for index, items in results for item in items if item in (-5, 3, 4, 6)} == {1}
    with pytest.raises(RuntimeError, match="the worker processes died"):
        list(over_workers(client, deadly, [[5]]))


def test_nothing_to_do_starts_nothing() -> None:
    assert list(over_processes(len, [])) == []


def test_a_scheduler_that_goes_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "PATIENCE", 1)
    with (
        LocalCluster(n_workers=1, processes=False, host="127.0.0.1", protocol="tcp", dashboard_address=None) as going,
        connected(Compute(scheduler=going.scheduler_address), 0, tasks=1) as one,
        pytest.raises(RuntimeError, match="scheduler closed; the results computed so far are kept"),
    ):
        for _ in over_workers(one, lambda chunk: time.sleep(0.05), [[k] for k in range(400)]):
            going.close()


def test_a_scheduler_without_workers_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "PATIENCE", 1)
    with (
        LocalCluster(n_workers=0, processes=False, host="127.0.0.1", protocol="tcp", dashboard_address=None) as empty,
        pytest.raises(BadParams, match=r"compute.scheduler tcp://.*: no worker; start one"),
        connected(Compute(scheduler=empty.scheduler_address), 0, tasks=1),
    ):
        pass


@pytest.mark.parametrize(
    ("cluster", "arguments", "directives"),
    [
        ("SLURMCluster", {"queue": "cpu", "account": "me"}, ["#SBATCH -p cpu", "#SBATCH -A me", "#SBATCH -t 02:00:00"]),
        ("PBSCluster", {"queue": "cpu"}, ["#PBS -q cpu", "#PBS -l walltime=02:00:00"]),
    ],
)
def test_the_job_script_as_it_would_be_submitted(
    cluster: str,
    arguments: dict[str, str],
    directives: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["compute"] |= {"cluster": cluster, "arguments": JOBS | arguments, "jobs": 10}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    assert compute.main() == 0
    script = capsys.readouterr().out
    for directive in directives:
        assert directive in script.splitlines()
    assert "-m distributed.cli.dask_worker tcp://127.0.0.1:" in script
    assert "--nthreads 1 " in script
    assert "--nworkers 2 " in script


SBATCH = """#!/bin/sh
echo . >> {folder}/submitted
cp "$1" {folder}/script.$$
sh {folder}/script.$$ > /dev/null 2>&1 &
echo $! >> {folder}/jobs
echo "Submitted batch job $!"
"""


def test_work_goes_through_the_jobs_of_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a fake sbatch that runs a copy of the script locally; the script itself is deleted after submission."""
    for name, text in {"sbatch": SBATCH.format(folder=tmp_path), "scancel": "#!/bin/sh\nkill $1\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    slurm = Compute(cluster="SLURMCluster", arguments=JOBS | {"cores": 1, "processes": 1}, jobs=2)
    with connected(slurm, 0, tasks=20) as one:
        results = [result for some in over_workers(one, sum, [[k, k] for k in range(20)]) for result in some]
    assert sorted(results) == [(k, 2 * k) for k in range(20)]
    assert len((tmp_path / "submitted").read_text().split()) == 2


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"cluster": "SlurmCluster"}, "compute.cluster: unknown cluster 'SlurmCluster'; did you mean 'SLURMCluster'?"),
        ({"cluster": "JobQueueCluster"}, "unknown cluster 'JobQueueCluster'"),
        (
            {"cluster": "SLURMCluster", "arguments": JOBS | {"qeue": "cpu"}},
            "has no argument 'qeue'; did you mean 'queue'?",
        ),
        ({"cluster": "SLURMCluster", "arguments": {"memory": "1GB"}}, "compute.arguments of SLURMCluster: .*cores"),
    ],
)
# dask-jobqueue leaves a partly constructed cluster behind if its arguments are invalid.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_no_cluster_takes_is_refused(asked: dict[str, object], words: str) -> None:
    with pytest.raises(BadParams, match=words.replace("?", r"\?")), connected(Compute(**asked), 0, tasks=1):
        pass


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"scheduler": "tcp://a:1", "cluster": "SLURMCluster"}, "both set"),
        ({"arguments": {"queue": "cpu"}}, "cluster is null"),
        ({"jobs": 0}, "greater than 0"),
    ],
)
def test_a_contradiction_in_params_is_refused(asked: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Compute(**asked)


INTERRUPTED = """
import os, signal, sys, time
from hydrogate.pipeline.workers.pool import over_processes
from hydrogate.pipeline.program import stage_exit_status

def work(chunk):
    if chunk == [0] and sys.argv[1] == "at work":
        os.killpg(0, signal.SIGINT)
    time.sleep(0.1)

def main():
    list(over_processes(work, [[k] for k in range(1000)], workers=1))
    return 0

if __name__ == "__main__":
    sys.exit(stage_exit_status(main))
if sys.argv[1] == "starting":
    os.killpg(0, signal.SIGINT)
"""


@pytest.mark.parametrize("moment", ["starting", "at work"])
def test_ctrl_c_which_a_terminal_sends_to_all_processes_is_one_line(moment: str, tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    command = [sys.executable, tmp_path / "interrupted.py", moment]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True)
    assert ended.stderr.splitlines() == [
        "interrupted; run the same command again: long stages and `hydrogate md` resume where they stopped"
    ]
    assert ended.returncode == 130


def test_no_worker_hears_ctrl_c_and_everybody_else_does_again() -> None:
    def held_back() -> bool:
        return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())

    before = signal.getsignal(signal.SIGINT)
    with connected(Compute(), 1, tasks=1) as one:
        assert list(one.run(held_back).values()) == [True]
        one.restart()
        assert list(one.run(held_back).values()) == [True]
        assert (held_back(), signal.getsignal(signal.SIGINT)) == (False, before)
    assert (held_back(), signal.getsignal(signal.SIGINT)) == (False, before)
