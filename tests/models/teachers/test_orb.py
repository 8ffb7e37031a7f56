"""Tests of the Orb teacher with random weights of the real architectures, through the real loader."""

import inspect
import socket
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cached_path
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from hydrogate.models.names import UnknownName
from hydrogate.models.teachers import Failure, Labels, make_teacher, orb

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
OMOL = "orb-v3-conservative-omol"
Weights = Callable[[str], Path]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return an empty cache of orb-models, and block access to the network."""

    def refuse(*arguments: Any) -> None:
        raise AssertionError("access to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("cached_path.common.CACHE_DIRECTORY", tmp_path / "cache")
    return tmp_path / "cache"


def test_every_method_is_a_loader_of_the_installed_package_and_its_file_is_known() -> None:
    from orb_models.forcefield.pretrained import ORB_PRETRAINED_MODELS

    for method, file in orb.FILES.items():
        parameters = inspect.signature(ORB_PRETRAINED_MODELS[method]).parameters
        assert {"precision", "compile", "device"} <= set(parameters)
        assert parameters["weights_path"].default == orb.DOWNLOADS + file
    later = {name for name in ORB_PRETRAINED_MODELS if name.startswith("orb-v3")}
    assert later | {"orb-v2"} == set(orb.METHODS)


@pytest.mark.parametrize(
    ("method", "marks"),
    [
        (OMOL, {}),
        ("orb-v3-direct-omol", {"conservative": False}),
        ("orb-v3-conservative-inf-omat", {}),
        ("orb-v3-conservative-20-mpa", {"smooth": False}),
        ("orb-v3-direct-20-omat", {"conservative": False, "smooth": False}),
        ("orb-v2", {"conservative": False, "smooth": False}),
    ],
)
def test_what_the_forces_and_energies_of_a_model_are_not_is_in_its_identity(
    method: str, marks: dict[str, bool], tmp_path: Path
) -> None:
    weights = tmp_path / "weights.ckpt"
    weights.write_bytes(b"weights")
    identity = make_teacher("orb", method, weights).identity()
    assert {key: value for key, value in identity.items() if key in ("conservative", "smooth")} == marks
    assert identity["settings"]["precision"] == "float32-highest"


@pytest.mark.parametrize("method", [OMOL, "orb-v3-direct-omol", "orb-v2"])
def test_it_agrees_with_the_calculator_of_orb_models(method: str, orb_weights: Weights) -> None:
    from orb_models.forcefield.pretrained import ORB_PRETRAINED_MODELS

    try:
        from orb_models.forcefield.inference.calculator import ORBCalculator
    except ModuleNotFoundError:  # orb-models 0.5, for Python 3.11
        from orb_models.forcefield.calculator import ORBCalculator
    ion = molecule("CH3CH2O")
    ion.info.update({"charge": -1, "spin": 1} if method.endswith("omol") else {"charge": 0, "spin": 2})
    if method == "orb-v2":
        ion = molecule("CH3CH2OH")
    (labels,) = make_teacher("orb", method, orb_weights(method)).label([ion])
    with warnings.catch_warnings(action="ignore"):
        loaded = ORB_PRETRAINED_MODELS[method](
            weights_path=str(orb_weights(method)), device="cpu", precision="float32-highest", compile=False
        )
    ion.calc = ORBCalculator(*(loaded if isinstance(loaded, tuple) else (loaded,)), device="cpu")
    assert labels.energy == pytest.approx(ion.get_potential_energy(), abs=1e-5)
    assert np.allclose(labels.forces, ion.get_forces(), atol=1e-5)


def test_its_forces_are_the_gradient_where_it_says_so_and_only_there(orb_weights: Weights) -> None:
    ethanol = molecule("CH3CH2OH")
    ethanol.rattle(0.05, seed=3)
    step = np.random.default_rng(0).normal(0.0, 1e-3, (len(ethanol), 3))
    ends = [ethanol.copy(), ethanol.copy()]
    for end, sign in zip(ends, (1.0, -1.0), strict=True):
        end.positions += sign * step
    ratio = {}
    for method in (OMOL, "orb-v3-direct-omol"):
        teacher = make_teacher("orb", method, orb_weights(method), {"precision": "float64"})
        middle, up, down = teacher.label([ethanol, *ends])
        ratio[method] = (down.energy - up.energy) / (2.0 * float((middle.forces * step).sum()))
    assert ratio[OMOL] == pytest.approx(1.0, abs=1e-4)
    assert abs(ratio["orb-v3-direct-omol"] - 1.0) > 0.1


def test_double_precision_is_another_identity_and_leaves_torch_alone(orb_weights: Weights) -> None:
    single, double = (make_teacher("orb", None, orb_weights(OMOL), {"precision": f"float{n}"}) for n in ("32-high", 64))
    water = molecule("H2O")
    (rough,), (exact,) = single.label([water]), double.label([water])
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_float32_matmul_precision() == "highest"
    assert 0 < np.abs(rough.forces - exact.forces).max() < 1e-4
    assert single.identity() != double.identity()


def test_what_its_libraries_say_of_themselves_is_not_on_standard_output(
    orb_weights: Weights, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from orb_models.forcefield.pretrained import ORB_PRETRAINED_MODELS

    loader = ORB_PRETRAINED_MODELS[OMOL]

    def talkative(**arguments: Any) -> Any:
        print("Warp initialized")
        return loader(**arguments)

    monkeypatch.setitem(ORB_PRETRAINED_MODELS, OMOL, talkative)
    make_teacher("orb", None, orb_weights(OMOL)).label([molecule("H2O")])
    said = capsys.readouterr()
    assert said.out == ""
    assert "Warp initialized" in said.err


def small() -> list[Atoms]:
    structures = [molecule(name) for name in ("H2O", "CH3CH2OH", "NH3", "CH3", "CH4", "C6H6")]
    structures[3].info.update(charge=0, spin=2)
    return structures


@pytest.mark.parametrize("method", [OMOL, "orb-v3-direct-omol"])
@pytest.mark.parametrize("room", [12, 25, 1000])
def test_a_batch_is_halved_until_it_fits_and_its_labels_are_those_of_each_alone(
    method: str, room: int, orb_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = make_teacher("orb", method, orb_weights(method))
    alone = teacher.label(small())
    asked: list[int] = []
    answers = teacher._answers

    def on_a_small_device(graphs: list[Any], device: Any) -> list[Labels | Failure]:
        asked.append(sum(int(graph.n_node.sum()) for graph in graphs))
        if asked[-1] > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answers(graphs, "cpu")

    class Gpu:
        type = "cuda"

    monkeypatch.setattr(teacher, "_answers", on_a_small_device)
    monkeypatch.setattr(teacher, "_device", Gpu())
    batched = teacher.label(small())
    assert asked[0] == 37
    assert len(asked) < 10
    for one, other in zip(alone, batched, strict=True):
        assert isinstance(one, Labels)
        assert other.energy == pytest.approx(one.energy, abs=2e-5)
        assert np.allclose(other.forces, one.forces, atol=1e-5)
    before = len(asked)
    teacher.label(small())
    assert all(size <= room for size in asked[before:])  # it keeps the limit of the device


def test_what_fits_in_no_way_is_a_failure_of_this_device(orb_weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = make_teacher("orb", None, orb_weights(OMOL))
    answers = teacher._answers

    def on_a_small_device(graphs: list[Any], device: Any) -> list[Labels | Failure]:
        if sum(int(graph.n_node.sum()) for graph in graphs) > 4:
            raise torch.OutOfMemoryError
        return answers(graphs, device)

    monkeypatch.setattr(teacher, "_answers", on_a_small_device)
    water, ethanol = teacher.label([molecule("H2O"), molecule("CH3CH2OH")])
    assert isinstance(water, Labels)
    assert ethanol == Failure(f"{OMOL}: 9 atoms do not fit into the memory of cpu", lasting=False)


def test_a_gpu_is_given_more_at_once_than_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights.ckpt").touch()

    def batch(device: str | None) -> int:
        return make_teacher("orb", OMOL, tmp_path / "weights.ckpt", {"device": device}).batch

    for gpu in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        assert (batch("cpu"), batch("cuda:1"), batch(None)) == (1, orb.BATCH, orb.BATCH if gpu else 1)


@pytest.mark.parametrize("weights", [None, "nowhere/weights.ckpt"])
@pytest.mark.parametrize("method", [OMOL, "orb-v3-direct-20-mpa", "orb-v2"])
def test_without_weights_it_says_which_file_to_fetch_and_where_to_put_it(
    method: str, weights: str | None, offline: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=r"label\.weights") as caught:
        make_teacher("orb", method, weights)
    url = orb.DOWNLOADS + orb.FILES[method]
    assert f"Fetch {url} and name the file in label.weights" in str(caught.value)
    place = Path(str(caught.value).rpartition(" save it as ")[2])
    assert place.parent == offline
    offline.mkdir()
    place.write_bytes(b"weights")
    assert make_teacher("orb", method).weights == place


def test_a_file_in_the_cache_of_orb_models_is_found_without_the_network(offline: Path, orb_weights: Weights) -> None:
    # Named as by its own download, from the address and the version reported by the server.
    offline.mkdir()
    name = cached_path.resource_to_filename(orb.DOWNLOADS + orb.FILES[OMOL], 'W/"etag"')
    (offline / name).symlink_to(orb_weights(OMOL))
    (offline / f"{name}.json").write_text("{}")
    (offline / f"{name}.lock").touch()
    teacher = make_teacher("orb")
    assert teacher.identity() == make_teacher("orb", None, orb_weights(OMOL)).identity()
    (labels,) = teacher.label([molecule("H2O")])
    assert isinstance(labels, Labels)


def test_without_the_extra_that_is_said_before_any_weights_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "orb_models", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'hydrogate\[orb\]'") as caught:
        make_teacher("orb")
    assert caught.value.name == "orb_models"


def test_a_file_that_is_not_the_weights(tmp_path: Path, orb_weights: Weights) -> None:
    path = tmp_path / "weights.ckpt"
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(ValueError, match=f"not the weights of {OMOL} .*fetch https://.*/{orb.FILES[OMOL]}") as caught:
        make_teacher("orb", None, path).label([])
    assert "weights_only" not in str(caught.value)
    with pytest.raises(ValueError, match="not the weights of orb-v3-direct-omol"):
        make_teacher("orb", "orb-v3-direct-omol", orb_weights(OMOL)).label([])
    stored = torch.load(orb_weights(OMOL), weights_only=True)
    torch.save({name: value for name, value in stored.items() if not name.startswith("heads.energy")}, path)
    with pytest.raises(ValueError, match=r"no weights for its energy"):
        make_teacher("orb", None, path).label([])
    # Both have the same architecture, so only the file name identifies them.
    other = tmp_path / Path(orb.FILES["orb-v3-conservative-20-omat"]).name
    other.touch()
    with pytest.raises(ValueError, match=r"the weights of orb-v3-conservative-20-omat, but label\.method is"):
        make_teacher("orb", "orb-v3-conservative-inf-omat", other)


def test_short_names_mean_every_neighbour(tmp_path: Path) -> None:
    weights = tmp_path / "weights.ckpt"
    weights.touch()
    teacher = make_teacher("orb", "orb-v3-direct-mpa", weights)
    assert teacher.identity()["method"] == "orb-v3-direct-inf-mpa"
    with pytest.raises(UnknownName, match="did you mean 'orb-v2'"):
        make_teacher("orb", "orb_v2", weights)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"precision": "float46"}, "unknown label.settings.precision 'float46'; did you mean 'float64'"),
        ({"device": 0}, "label.settings.device is 0; expected a device such as cpu, cuda or cuda:1"),
        ({"device": "cud"}, "label.settings.device 'cud' cannot be used here"),
        ({"device": "cuda:97"}, "label.settings.device 'cuda:97' cannot be used here"),
        ({"devise": "cpu"}, "unknown setting of teacher 'orb': 'devise'; did you mean 'device'"),
    ],
)
def test_settings_without_sense(settings: dict[str, object], words: str, orb_weights: Weights) -> None:
    with pytest.raises(ValueError, match=words):
        make_teacher("orb", None, orb_weights(OMOL), settings).label([])


def test_what_it_was_not_taught_is_a_failure_beside_the_labels_of_the_others(orb_weights: Weights) -> None:
    lattice, slab, charged, empty_cell = (molecule("H2O", vacuum=5.0) for _ in range(4))
    lattice.pbc, slab.pbc = True, [True, True, False]
    charged.info.update(charge=1, spin=2)
    collapsed = molecule("H2O")
    collapsed.positions *= 0.3
    structures = [lattice, slab, charged, collapsed, empty_cell]
    in_words = {
        OMOL: ["was trained on molecules", "was trained on molecules", None, "collapsed", None],
        "orb-v3-direct-inf-omat": [None, "subset of axes", "has no charge or spin input", "collapsed", None],
    }
    for method, expected in in_words.items():
        answers = make_teacher("orb", method, orb_weights(method)).label(structures)
        for answer, words in zip(answers, expected, strict=True):
            assert (isinstance(answer, Failure) and words in answer.reason) if words else isinstance(answer, Labels)
    # A cell without periodicity is not a lattice, in which the direct models leave a torque.
    torque = np.cross(empty_cell.positions - empty_cell.positions.mean(axis=0), answers[4].forces).sum(axis=0)
    assert np.abs(torque).max() < 1e-4
