"""Orb through orb-models: energies in eV and forces in eV/Å, with local weights; nothing is downloaded.

The forces of ``direct`` models and of Orb-v2 are predicted separately and are not the gradient of the energy. Models
with 20 neighbours have energies that jump when the twenty-first comes nearer. The teacher's identity marks both.
"""

import hashlib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from hydrogate.models.names import refuse_unknown
from hydrogate.models.teachers import Failure, Labels, charge_and_multiplicity
from hydrogate.models.teachers._molecule import refuse_no_molecule

# Weight file of each method, below DOWNLOADS; listed here because importing orb-models takes seconds.
# Source: the defaults of the loaders in orb_models.forcefield.pretrained, orb-models 0.5.5 and 0.7.0.
DOWNLOADS = "https://orbitalmaterials-public-models.s3.us-west-1.amazonaws.com/forcefields/"
FILES = {
    "orb-v3-conservative-omol": "orb-v3-conservative-omol-20250820.ckpt",
    "orb-v3-direct-omol": "orb-v3-direct-omol-20250820.ckpt",
    **{
        f"orb-v3-{forces}-{neighbours}-{data}": f"orb-v3/orb-v3-{forces}-{neighbours}-{data}-20250404.ckpt"
        for forces in ("conservative", "direct")
        for neighbours in ("inf", "20")
        for data in ("omat", "mpa")
    },
    "orb-v2": "orb-v2-20241011.ckpt",
}
METHODS = tuple(FILES)
SHORT = {method.replace("-inf", ""): method for method in METHODS if "-inf" in method}
# ``device`` changes labels only by rounding and is not part of the identity; None: a GPU if there is one.
SETTINGS: dict[str, Any] = {"precision": "float32-highest", "device": None}
# Structures per task on a GPU, some 10,000 atoms; a batch that does not fit into its memory is halved.
BATCH = 256
PRECISIONS = ("float32-highest", "float32-high", "float64")
# Prefixes of weights in Orb-v2's file. Source: orb_models.forcefield.load, in 0.7 orb_models.common.models.load.
_HEADS = {"energy": ("heads.energy.", "graph_head."), "forces": ("heads.forces.", "node_head.")}


class Orb:
    """Energies and forces of the Orb model ``method`` with the weights in ``weights``.

    Parameters
    ----------
    method : str
        One of ``METHODS``.
    weights : path
    precision : str
        One of ``PRECISIONS``, as orb-models names them.
    device : str, optional
        As PyTorch names it; by default a GPU if there is one.
    """

    dipoles = False

    def __init__(self, method: str, weights: Path, precision: str, device: str | None) -> None:
        self.method, self.weights, self.precision, self.device = method, weights, precision, device
        self._model: Any = None
        self._adapter: Any = None
        self._device: Any = None
        # Known limit on the atoms in a batch on a GPU; on a CPU, batches are no faster than single structures.
        self._room: float = np.inf

    @property
    def batch(self) -> int:
        """``BATCH`` on a GPU, either named by ``device`` or found by PyTorch; 1 on a CPU."""
        import torch

        on_a_gpu = torch.cuda.is_available() if self.device is None else not self.device.startswith("cpu")
        return BATCH if on_a_gpu else 1

    def identity(self) -> dict[str, Any]:
        """Return name, version, settings and weights hash; mark forces and energies with missing properties."""
        conservative, smooth = "-conservative-" in self.method, "-20-" not in self.method and self.method != "orb-v2"
        return {
            "name": "orb",
            "method": self.method,
            "program": "orb-models",
            "version": version("orb-models"),
            "settings": {"precision": self.precision, "weights_sha256": self._weights_sha256},
            **({} if conservative else {"conservative": False}),
            **({} if smooth else {"smooth": False}),
        }

    @cached_property
    def _weights_sha256(self) -> str:
        with self.weights.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def label(self, structures: Sequence[Atoms]) -> list[Labels | Failure]:
        """Label each structure; a `Failure` for one that the model does not support (charge, periodicity)."""
        with _defaults_set(self.precision):
            if self._model is None:
                self._model, self._adapter, self._device = self._load()
            graphs = [self._graph(atoms) for atoms in structures]
            answers = iter(self._in_batches([graph for graph in graphs if not isinstance(graph, Failure)]))
            return [graph if isinstance(graph, Failure) else next(answers) for graph in graphs]

    def _load(self) -> tuple[Any, Any, Any]:
        """Return the model, the adapter that makes its graphs, and the model's device."""
        import torch
        from orb_models.forcefield.pretrained import ORB_PRETRAINED_MODELS

        try:
            device = torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"label.settings.device {self.device!r} cannot be used here: {error}") from error
        try:
            load = ORB_PRETRAINED_MODELS[self.method]
            loaded = load(weights_path=str(self.weights), device="cpu", precision=self.precision, compile=False)
            model, adapter = loaded if isinstance(loaded, tuple) else (loaded, _Adapter(loaded.system_config))
            stored = torch.load(self.weights, map_location="cpu", weights_only=True)
        except Exception as error:
            # An invalid weight file fails in many ways. If PyTorch refuses to run code in a file, the rest of its
            # message explains how to run it, and is cut off.
            said = str(error).partition(". ")[0]
            raise self._not_the_weights(f"{type(error).__name__}: {said}") from error
        # orb-models leaves a head at random weights if the file has none for it.
        for head, prefixes in _HEADS.items():
            if head in model.heads and not any(name.startswith(prefixes) for name in stored):
                raise self._not_the_weights(f"no weights for its {head}")
        return model.to(device), adapter, device

    def _not_the_weights(self, reason: str) -> ValueError:
        return ValueError(
            f"{self.weights}: not the weights of {self.method} ({reason}); fetch {DOWNLOADS}{FILES[self.method]} and "
            "name the file in label.weights"
        )

    def _graph(self, atoms: Atoms) -> Any:
        """Return the structure as a graph for the model, or a `Failure`."""
        reads_charge = self._model.model.conditioner is not None
        try:
            charge, multiplicity = charge_and_multiplicity(atoms)
            refuse_no_molecule(atoms)
            if (charge, multiplicity) != (0, 1) and not reads_charge:
                raise ValueError(
                    f"the model has no charge or spin input, got charge {charge}, multiplicity {multiplicity}"
                )
            if atoms.pbc.any() and reads_charge:
                raise ValueError(
                    f"the model was trained on molecules, got a structure periodic along {atoms.pbc.tolist()}"
                )
            # The model would treat a cell without periodicity as a lattice: the forces would keep a net torque.
            cell = atoms.cell if atoms.pbc.any() else None
            plain = Atoms(atoms.numbers, atoms.positions, cell=cell, pbc=atoms.pbc)
            plain.info = {"charge": charge, "spin": multiplicity} if reads_charge else {}
            # The default of 0.5 on a CPU; the default of 0.7 finds the same edges, but compiles first.
            return self._adapter.from_ase_atoms(plain, edge_method="knn_scipy", device="cpu")
        except (NotImplementedError, ValueError) as error:
            return Failure(f"{self.method}: {error}")

    def _in_batches(self, graphs: Sequence[Any]) -> list[Labels | Failure]:
        """Label in batches that fit into the memory of the device; a batch that does not fit is halved."""
        import torch

        answers: list[Labels | Failure] = []
        while len(answers) < len(graphs):
            left = graphs[len(answers) :]
            atoms = np.cumsum([int(graph.n_node.sum()) for graph in left])
            count = 1 if self._device.type == "cpu" else max(1, int(np.searchsorted(atoms, self._room, side="right")))
            try:
                answers += self._answers(left[:count], self._device)
            except torch.OutOfMemoryError:
                if count > 1:
                    self._room = int(atoms[count - 1]) // 2
                else:
                    reason = f"{self.method}: {atoms[0]} atoms do not fit into the memory of {self._device}"
                    answers.append(Failure(reason, lasting=False))
                torch.cuda.empty_cache()
        return answers

    def _answers(self, graphs: Sequence[Any], device: Any) -> list[Labels | Failure]:
        predicted = self._model.predict(self._adapter.batch(list(graphs)).to(device))
        # The gradient of the energy if the model has one, else the separately predicted forces.
        name = getattr(self._model, "grad_forces_name", "forces")
        energies, forces = (predicted[key].detach().cpu().double().numpy() for key in ("energy", name))
        sizes = [int(graph.n_node.sum()) for graph in graphs]
        return [
            Labels(energy, force)
            if np.isfinite(energy) and np.isfinite(force).all()
            else Failure(f"{self.method} returned an energy or a force that is not finite")
            for energy, force in zip(
                energies.reshape(-1).tolist(), np.split(forces.reshape(-1, 3), np.cumsum(sizes)[:-1]), strict=True
            )
        ]


@dataclass(frozen=True)
class _Adapter:
    """Functions of orb-models 0.5 under the names of the adapter that the loaders of 0.7 return too."""

    system: Any

    def from_ase_atoms(self, atoms: Atoms, edge_method: str, device: str) -> Any:
        from orb_models.forcefield.atomic_system import ase_atoms_to_atom_graphs

        return ase_atoms_to_atom_graphs(atoms, self.system, edge_method=edge_method, device=device)

    def batch(self, graphs: list[Any]) -> Any:
        from orb_models.forcefield.base import batch_graphs

        return batch_graphs(graphs)


@contextmanager
def _defaults_set(precision: str) -> Iterator[None]:
    """Set PyTorch's defaults as Orb needs them, and restore them afterwards.

    Orb sets PyTorch's default precision for the whole process and warns about it. Both are kept inside this module.
    """
    import torch

    dtype, matmul = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    torch.set_default_dtype(torch.float64 if precision == "float64" else torch.float32)
    torch.set_float32_matmul_precision("high" if precision == "float32-high" else "highest")
    try:
        # Warp prints a message when orb-models 0.7 loads it, which must not be part of a command's output.
        with redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Setting global torch default dtype")
            warnings.filterwarnings("ignore", message="`torch.jit.script", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message="Consider passing 'precision=float32-high'")
            warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message="knn_scipy is deprecated", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message="Found key in ")  # `_load` checks those that matter
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_float32_matmul_precision(matmul)


def make(method: str, weights: str | Path | None, settings: Mapping[str, Any]) -> Orb:
    """Return the teacher at ``method`` with the local weight file ``weights``, else the one in orb-models' cache.

    Raises
    ------
    ModuleNotFoundError
        The extra ``orb`` is not installed.
    FileNotFoundError
        The weight file does not exist; nothing is downloaded.
    ValueError
        By its name, the file belongs to another method, or a setting is invalid.
    """
    if find_spec("orb_models") is None:
        raise ModuleNotFoundError("teacher 'orb' needs orb-models: pip install 'hydrogate[orb]'", name="orb_models")
    refuse_unknown("label.settings.precision", settings["precision"], PRECISIONS)
    if not isinstance(settings["device"], str | None):
        raise ValueError(
            f"label.settings.device is {settings['device']!r}; expected a device such as cpu, cuda or cuda:1"
        )
    path = _in_the_cache(method) if weights is None else Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"teacher 'orb', method {method!r}: {path}: no such file. {_where_to_get(method)}")
    for other, file in FILES.items():
        if other != method and path.name == Path(file).name:
            raise ValueError(f"{path}: these are the weights of {other}, but label.method is {method}")
    return Orb(method, path, settings["precision"], settings["device"])


def save_random_weights(method: str | None, folder: Path) -> Path:
    """Write random weights of the real size for ``method`` (None: the default), for timing only; return the file."""
    import torch

    chosen = METHODS[0] if method is None else SHORT.get(method, method)
    refuse_unknown("method of teacher 'orb':", chosen, METHODS)
    kind = "v2" if chosen == "orb-v2" else "v3_direct" if "direct" in chosen else "v3_conservative"
    omol = {"has_charge_spin_cond": True, "has_stress": False} if chosen.endswith("omol") else {}
    with _defaults_set("float32-highest"):
        from orb_models.forcefield import pretrained

        model = getattr(pretrained, f"orb_{kind}_architecture")(device="cpu", **omol)
    path = folder / f"{chosen}.pt"
    torch.save(model.state_dict(), path)
    return path


def _in_the_cache(method: str) -> Path:
    """Return the file for ``method`` in orb-models' cache; unlike orb-models itself, without network access."""
    from cached_path import find_latest_cached

    path: Path | None = find_latest_cached(DOWNLOADS + FILES[method])
    if path is None:
        raise FileNotFoundError(
            f"teacher 'orb', method {method!r}: no weight file is given, and orb-models has none in its cache. "
            + _where_to_get(method)
        )
    return path


def _where_to_get(method: str) -> str:
    from cached_path import get_cache_dir, resource_to_filename

    url = DOWNLOADS + FILES[method]
    return (
        f"Fetch {url} and name the file in label.weights, or save it as {get_cache_dir() / resource_to_filename(url)}"
    )
