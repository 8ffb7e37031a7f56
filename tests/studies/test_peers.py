"""Tests of peers: worker protocol with a fake peer, crashing contestants, environments that cannot be created."""

import ast
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from studies.peer_models import _environment
from studies.peer_models._client import Contestant, ContestantDied, interleaved
from studies.peer_models._environment import NotInstalled, Peer, interpreter, peers
from studies.peer_models._worker import Structure, learn_by_recipe, read_structures, serve, write_structures

FOLDER = Path(_environment.__file__).parent


def pulled(count: int) -> list[Structure]:
    """Return structures with harmonic forces towards the origin, described by a single force constant."""
    rng = np.random.default_rng(0)
    made = []
    for size in rng.integers(2, 6, count):
        positions = rng.normal(size=(size, 3))
        made.append(Structure(np.ones(size, dtype=int), positions, 1.5 * (positions**2).sum(), -3.0 * positions))
    return made


class Spring(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stiffness = torch.nn.Parameter(torch.zeros(()))


def fake(**changes: Any) -> SimpleNamespace:
    """Return a fake peer whose model is one force constant; it records its calls."""
    calls: list[bool] = []

    def energy_and_forces(model: Spring, batch: list[Structure], training: bool) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(training)
        positions = torch.from_numpy(np.concatenate([one.positions for one in batch])).float()
        return torch.zeros(len(batch)), -model.stiffness * positions

    names: dict[str, Any] = {
        "make": lambda contestant, structures: Spring(),
        "graph": lambda model, structure: structure,
        "join": list,
        "energy_and_forces": energy_and_forces,
        "optimizer": lambda model: torch.optim.SGD(model.parameters(), lr=0.2),
        "loss": lambda energy, forces, true_energy, true_forces, sizes: (forces - true_forces).square().mean(),
        "BATCH_SIZE": 4,
        "CLIP_NORM": 100.0,
        "WARMUP_STEPS": 0,
        "EMA_DECAY": None,
        "CONSTANT_EPOCHS": 20,
        "calls": calls,
    }
    return SimpleNamespace(**names | changes)


def served(peer: SimpleNamespace, *commands: Mapping[str, Any]) -> list[dict[str, Any]]:
    answers = io.StringIO()
    threads = torch.get_num_threads()
    lines = [json.dumps(command) for command in commands]
    serve(peer, "it", lambda command: learn_by_recipe(peer, "it", command), lines, answers)
    torch.set_num_threads(threads)
    return [json.loads(line) for line in answers.getvalue().splitlines()]


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "structures.npz"
    write_structures(path, pulled(10))
    return str(path)


def test_structures_survive_the_plain_file(file: str) -> None:
    for there, back in zip(pulled(10), read_structures(file), strict=True):
        assert back.energy == there.energy
        for name in ("numbers", "positions", "forces"):
            assert np.array_equal(getattr(back, name), getattr(there, name))


@pytest.mark.parametrize("what", ["inference", "training"])
def test_a_round_runs_what_was_asked(file: str, what: str) -> None:
    peer = fake()
    command = {"do": "round", "what": what, "file": file, "batch": 3, "at_least": 0.0}
    first, again = served(peer, command, command)
    atoms = sum(len(one.numbers) for one in pulled(10)[:3])
    assert first["atoms"] == again["atoms"] == atoms
    assert first["seconds"] >= 0
    assert peer.calls == [what == "training"] * 2


def learned(peer: SimpleNamespace, file: str, **changes: float) -> list[dict[str, Any]]:
    command = {"do": "learn", "train": file, "held_out": file, "every": 0.0, "budget": 100.0, "until": 0.01}
    return served(peer, command | changes)


def test_it_learns_until_it_is_accurate_enough(file: str) -> None:
    *points, last = learned(fake(), file)
    assert last == {"done": "reached"}
    assert points[-1]["force_rmse"] <= 0.01 < points[-2]["force_rmse"]
    seconds, epochs = ([point[name] for point in points] for name in ("cpu_seconds", "epochs"))
    assert seconds == sorted(seconds)
    assert epochs[0] == pytest.approx(1 / 3) and epochs == sorted(epochs)


def test_it_stops_when_its_time_is_spent(file: str) -> None:
    *points, last = learned(fake(), file, budget=0.0)
    assert last == {"done": "time budget used up"}
    assert len(points) == 1


def test_it_stops_before_its_schedule_would_act(file: str) -> None:
    *points, last = learned(fake(CONSTANT_EPOCHS=1), file, until=0.0)
    assert last == {"done": "training finished"}
    assert len(points) == 3


def test_a_warm_up_starts_slowly_and_an_average_lags(file: str) -> None:
    plain = learned(fake(), file)[0]["force_rmse"]
    assert learned(fake(WARMUP_STEPS=100), file)[0]["force_rmse"] > plain
    assert learned(fake(EMA_DECAY=0.9), file)[3]["force_rmse"] > learned(fake(), file)[3]["force_rmse"]


def test_what_is_not_finite_is_never_accurate(file: str) -> None:
    diverging = fake(optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=1e30), CLIP_NORM=None)
    *points, last = learned(diverging, file)
    assert last == {"done": "training finished"}
    assert points[-1]["force_rmse"] is None


WORKER = """
import json, sys
for line in sys.stdin:
    if "die" in json.loads(line):
        sys.exit("out of memory")
    print(json.dumps({"seconds": 2.0, "atoms": 8}), flush=True)
"""


def test_a_contestant_answers_and_one_that_dies_says_why(tmp_path: Path) -> None:
    with Contestant([sys.executable, "-c", WORKER], tmp_path / "log") as contestant:
        assert contestant.ask({"do": "round"}) == {"seconds": 2.0, "atoms": 8}
        with pytest.raises(ContestantDied, match="ended with exit status 1: out of memory"):
            contestant.ask({"die": True})
        with pytest.raises(ContestantDied, match="out of memory"):
            contestant.ask({"do": "round"})


class Scripted:
    """Fake contestant that reports the given seconds and crashes after the last."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = iter(seconds)

    def ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {"seconds": next(self.seconds), "atoms": 8}
        except StopIteration:
            raise ContestantDied("its process ended") from None


def test_ratios_are_taken_round_by_round_and_the_first_does_not_count(tmp_path: Path) -> None:
    contestants = {"ours": Scripted(9.0, 1.0, 2.0, 1.0), "theirs": Scripted(1.0, 4.0, 4.0, 3.0)}
    (ours, theirs), absent = interleaved(contestants, "inference", 8, tmp_path, 3, 0.0)
    assert (ours.ratio, ours.atoms_per_second) == (1.0, 8.0)
    assert (theirs.ratio, theirs.least, theirs.greatest) == (3.0, 2.0, 4.0)
    assert absent == {}


def test_one_that_dies_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    contestants = {"ours": Scripted(1.0, 1.0, 1.0), "frail": Scripted(1.0, 1.0), "theirs": Scripted(1.0, 5.0, 5.0)}
    rows, absent = interleaved(contestants, "inference", 8, tmp_path, 2, 0.0)
    assert [row.name for row in rows] == ["ours", "theirs"]
    assert absent == {"frail": "its process ended"}
    with pytest.raises(ContestantDied):
        interleaved({"ours": Scripted(1.0)}, "inference", 8, tmp_path, 2, 0.0)


def test_each_peer_says_what_it_requires_and_imports_nothing_of_this_project() -> None:
    found = peers()
    assert [peer.name for peer in found] == ["graphpes", "mace", "orb", "tensornet"]
    for peer in found:
        assert peer.requirements[0].startswith("torch==")
        assert peer.contestants
        assert (peer.name == "orb") == (peer.not_trained is not None)
    for path in (*(peer.script for peer in found), FOLDER / "_worker.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert "hydrogate" not in ast.unparse(node), path


def test_a_file_without_metadata_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text("import torch\n")
    with pytest.raises(ValueError, match=r"bare.py: no inline metadata"):
        peers(tmp_path)


@pytest.fixture
def no_venv(monkeypatch: pytest.MonkeyPatch) -> None:
    """Create environments that link to this Python; nothing is copied."""

    def create(folder: Path, **_: bool) -> None:
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        (folder / "bin" / "python").symlink_to(sys.executable)

    monkeypatch.setattr(_environment.venv, "create", create)


@pytest.mark.usefixtures("no_venv")
def test_an_environment_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    peer = Peer("none", tmp_path / "none.py", (f"{tmp_path}/nowhere.whl",), ("None",), None)
    with pytest.raises(NotInstalled, match=r"nowhere.whl cannot be installed: \S+"):
        interpreter(peer, tmp_path / "peers")
    assert not (tmp_path / "peers" / "none" / "installed").exists()


@pytest.mark.usefixtures("no_venv")
def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer("some", tmp_path / "some.py", (), ("Some",), None)
    python = interpreter(peer, tmp_path)
    monkeypatch.setattr(_environment.venv, "create", None)
    assert interpreter(peer, tmp_path) == python
    with pytest.raises(TypeError):
        interpreter(peer._replace(requirements=("other",)), tmp_path)
