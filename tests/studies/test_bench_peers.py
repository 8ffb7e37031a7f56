"""Tests of the benchmark against third-party models: stored results, targets, output; students as contestants."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hydrogate.checks.data.dataset import Dataset
from hydrogate.pipeline.params import Train, load_params
from hydrogate.pipeline.storage.hdf5 import write_dataset
from studies.benchmarks import peers as bench_peers
from studies.benchmarks.own_students import OwnPeer
from studies.benchmarks.peers import Entry, bracket, main, peer_entries, structures_of, targets
from studies.peer_models._client import ContestantDied, Speed
from studies.peer_models._environment import NotInstalled
from studies.peer_models._worker import serve, write_structures

ROOT = Path(__file__).resolve().parents[2]


def point(seconds: float, rmse: float | None) -> dict[str, float | None]:
    return {"cpu_seconds": seconds, "force_rmse": rmse, "epochs": 1.0}


def run(*points: dict[str, float | None]) -> dict[str, Any]:
    reached = {f"{threshold:.2f}": bracket(points, threshold) for threshold in bench_peers.THRESHOLDS}
    return {"points": list(points), "ended": "reached", "reached": reached}


def test_a_threshold_is_reached_between_two_looks() -> None:
    points = [point(5.0, 0.4), point(10.0, None), point(15.0, 0.24)]
    assert bracket(points, 0.25) == [10.0, 15.0]
    assert bracket(points, 0.20) == [15.0, None]
    assert bracket([], 0.20) == [0.0, None]


def test_targets_are_judged_where_they_were_measured_and_against_ourselves() -> None:
    rows = [
        Speed("inference", 32, "Orb-v3 conservative", 70.0, 151.0, 140.0, 160.0),
        Speed("inference", 32, "Orb-v3 direct", 140.0, 79.0, 70.0, 90.0),
        Speed("training", 8, "torchmd-net TensorNet64", 700.0, 5.0, 4.0, 6.0),
    ]
    ours = run(point(20.0, 0.25), point(30.0, 0.20))
    theirs = run(point(50.0, 0.3), point(70.0, 0.24), point(120.0, 0.21))
    report = {"rows": [row._asdict() for row in rows], "accuracy": {"ours": ours, "theirs": theirs}}
    report["to_train"] = ["theirs"]
    assert [target.reached for target in targets(report)] == [True, False, None, False, True]
    # Theirs counts from the last evaluation above the threshold, not from the first one below.
    assert [target.found for target in targets(report)][3:] == [20.0 / 50.0, 30.0 / 120.0]
    assert [target.reached for target in targets({"rows": [], "accuracy": {}, "to_train": []})] == [None] * 5
    # The best peer is unknown until all have run.
    assert [target.reached for target in targets(report | {"to_train": ["theirs", "another"]})][3:] == [None, None]
    at_once = {"rows": [], "to_train": [], "accuracy": {"ours": ours, "theirs": run(point(50.0, 0.1))}}
    assert targets(at_once)[3:] == [(targets(report)[k].target, None, False) for k in (3, 4)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labelled: Dataset) -> Path:
    """Return a checkout with labels; two students, a peer that is trained, one that crashes and one not trained."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write_dataset(labelled, Path("data/labelled.h5"))
    own = {"hydrogate painn": Entry(("own",)), "hydrogate so3lr": Entry(("own",))}
    others = {"slow": Entry(("slow",)), "frail": Entry(("frail",)), "huge": Entry(("huge",), "too huge")}
    monkeypatch.setattr(bench_peers, "own_entries", lambda: own)
    monkeypatch.setattr(bench_peers, "peer_entries", lambda: (others, {"gone": "no such package"}))
    return tmp_path


def test_times_to_accuracy_are_kept_one_by_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, float]] = []

    def timed(entry: Entry, files: Mapping[str, str], budget: float, every: float) -> dict[str, Any]:
        asked.append((entry.command[0], budget))
        if entry.command[0] == "frail":
            raise ContestantDied("its process ended with exit status -9: killed")
        return run(point(10.0, 0.19)) if entry.command[0] == "own" else run(point(40.0, 0.3))

    monkeypatch.setattr(bench_peers, "time_to_accuracy", timed)
    assert main(["accuracy"]) == 0
    assert asked == [("own", float("inf")), ("slow", 40.0), ("frail", 40.0)]
    report = json.loads(Path("reports/benchmarks-peers.json").read_text())
    assert list(report["accuracy"]) == ["hydrogate painn", "slow"]
    assert report["accuracy"]["slow"]["reached"]["0.20"] == [40.0, None]
    assert report["not_run"]["gone"] == "no such package"
    assert report["not_run"]["frail, time to accuracy"].endswith("killed")
    assert report["not_run"]["huge, training"] == "too huge"
    assert "cuda" in report["not_run"]
    assert main(["accuracy"]) == 0
    assert asked[3:] == [("frail", 40.0)]


def test_times_on_other_data_are_not_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_peers, "time_to_accuracy", lambda *_: run(point(10.0, 0.19)))
    assert main(["accuracy"]) == 0
    path = Path("reports/benchmarks-peers.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labelled_fingerprint": "other"}))
    assert bench_peers.read_report("mine")["accuracy"] == {}
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"not a report of this benchmark .*; delete it"):
        bench_peers.read_report("mine")


def test_a_student_that_does_not_get_there_is_no_measure(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_peers, "time_to_accuracy", lambda *_: run(point(10.0, 0.3)))
    with pytest.raises(RuntimeError, match=r"hydrogate painn did not reach 0.20 eV/Å in \d+ epochs"):
        main(["accuracy"])


def test_the_speeds_are_written_and_drawn(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, list[str]]] = []

    class Quiet:
        def __init__(self, command: tuple[str, ...], log: Path) -> None: ...
        def __enter__(self) -> "Quiet":
            return self

        def __exit__(self, *_: object) -> None: ...

    def raced(able: Mapping[str, Quiet], what: str, batch: int, *_: object) -> tuple[list[Speed], dict[str, str]]:
        asked.append((what, batch, list(able)))
        rows = [Speed(what, batch, name, 10.0, 1.0 + k, 1.0 + k, 1.0 + k) for k, name in enumerate(able)]
        return [row for row in rows if row.name != "frail"], {"frail": "it died"} if "frail" in able else {}

    monkeypatch.setattr(bench_peers, "Contestant", Quiet)
    monkeypatch.setattr(bench_peers, "interleaved", raced)
    whole = Path("reports/benchmarks-peers.json")
    whole.parent.mkdir()
    whole.write_text("of a run of hours")
    assert main(["quick"]) == 0
    assert whole.read_text() == "of a run of hours"
    assert not whole.with_suffix(".png").exists()
    own = ["hydrogate painn", "hydrogate so3lr"]
    assert asked == [("inference", 8, [*own, "slow", "frail", "huge"])]
    report = json.loads(Path("reports/benchmarks-peers-quick.json").read_text())
    assert [row["name"] for row in report["rows"]] == [*own, "slow", "huge"]
    assert report["not_run"]["frail"] == "it died"
    assert Path("reports/benchmarks-peers-quick.png").stat().st_size > 1000
    rows, _ = bench_peers.speeds(dict.fromkeys([*own, "frail"], Entry(())) | {"huge": Entry((), "no")}, *_data(place))
    assert asked[1][:2] == ("inference", 1) and "frail" in asked[1][2]
    assert asked[-1] == ("training", 32, own)
    assert {row.batch for row in rows} == {1, 8, 32}


def _data(place: Path) -> tuple[Dataset, bool]:
    return bench_peers.read_dataset(place / "data/labelled.h5"), False


def test_two_words_are_refused() -> None:
    with pytest.raises(ValueError, match="expected no argument, 'quick' or 'accuracy'"):
        main(["quick", "accuracy"])


def test_a_peer_that_does_not_install_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interpreter(peer: Any, root: Path) -> Path:
        if peer.name == "orb":
            raise NotInstalled("orb-models==0.5.5 cannot be installed: no network")
        return root / peer.name / "bin" / "python"

    monkeypatch.setattr(bench_peers, "interpreter", interpreter)
    entries, absent = peer_entries(tmp_path)
    assert set(absent) == {"Orb-v3 conservative", "Orb-v3 direct"}
    assert set(absent.values()) == {"orb-models==0.5.5 cannot be installed: no network"}
    assert "mace-torch 64x0e" in entries
    for entry in entries.values():
        assert Path(entry.command[2]).exists() and Path(entry.command[3]).exists()


SMALL = {"features": 16, "layers": 1, "radial": 8, "cutoff": 4.0}


@pytest.fixture
def own(tmp_path: Path) -> OwnPeer:
    train: Train = load_params(ROOT / "params.yaml").train
    return OwnPeer(train.model_copy(update={"sizes": {"painn": SMALL}}), tmp_path / "none.safetensors")


def test_the_student_runs_its_rounds(own: OwnPeer, labelled: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "some.npz"
    write_structures(file, structures_of(labelled, range(3)))
    answers = io.StringIO()
    commands = [
        json.dumps({"do": "round", "what": what, "file": str(file), "batch": 2, "at_least": 0.0})
        for what in ("inference", "training")
    ]
    serve(own, "painn", lambda command: iter(()), commands, answers)
    found = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert [answer["atoms"] for answer in found] == [int(labelled.sizes[:2].sum())] * 2
    assert all(answer["seconds"] > 0 for answer in found)


def test_the_student_learns_by_the_pipeline_and_is_asked_outside_the_clock(
    own: OwnPeer, labelled: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "labelled.h5"
    write_dataset(labelled, path)
    points = list(own.learn("painn", {"labelled": str(path), "epochs": 2, "every": 1e9}))
    assert [found.epochs for found in points] == [1.0, 2.0]
    assert points[1].force_rmse < points[0].force_rmse
    assert 0 < points[0].cpu_seconds < points[1].cpu_seconds
    often = list(own.learn("painn", {"labelled": str(path), "epochs": 1, "every": 0.0}))
    steps = -(-int((labelled.split == "train").sum()) // own.params.batch_size)
    assert len(often) == steps + 1
    assert often[-1].force_rmse == pytest.approx(points_of_one_epoch(own, path), rel=1e-6)


def points_of_one_epoch(own: OwnPeer, path: Path) -> float:
    (only,) = own.learn("painn", {"labelled": str(path), "epochs": 1, "every": 1e9})
    assert np.isfinite(only.force_rmse)
    return only.force_rmse
