"""Orb-v3 through orb-models: energies and forces in eV and eV/Å from a local weight file.

Only the models whose forces are the gradient of their energy, with every neighbour within the cutoff, are teachers:
the ``direct`` ones predict forces that no energy has, and the ``-20`` ones are not continuous.
"""

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from hydrogate.models.teachers import Failure, Labels, charge_and_multiplicity

METHODS = ("orb-v3-conservative-omol", "orb-v3-conservative-inf-omat", "orb-v3-conservative-inf-mpa")
# Source: the defaults of the loaders in orb_models.forcefield.pretrained, orb-models 0.5.5.
DOWNLOADS = "https://orbitalmaterials-public-models.s3.us-west-1.amazonaws.com/forcefields/"
PRECISION = "float32-highest"
SETTINGS: dict[str, Any] = {}


class Orb:
    """Energies and forces of isolated structures by the Orb model ``method`` with the weights in ``weights``."""

    dipoles = False

    def __init__(self, method: str, weights: Path) -> None:
        self.method, self.weights = method, weights
        self._calculator: Any = None

    def identity(self) -> dict[str, Any]:
        """Name, version and settings; the weights by their content."""
        with self.weights.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        return {
            "name": "orb",
            "method": self.method,
            "program": "orb-models",
            "version": version("orb-models"),
            "settings": {"precision": PRECISION, "weights_sha256": content},
        }

    def label(self, structures: Sequence[Atoms]) -> list[Labels | Failure]:
        """One entry a structure; one that the model does not know of (a charge, a period) is a `Failure`."""
        with _defaults_kept():
            if self._calculator is None:
                self._calculator = self._load()
            return [self._label(atoms) for atoms in structures]

    def _load(self) -> Any:
        from orb_models.forcefield.calculator import ORBCalculator
        from orb_models.forcefield.pretrained import ORB_PRETRAINED_MODELS

        try:
            model = ORB_PRETRAINED_MODELS[self.method](
                weights_path=str(self.weights), precision=PRECISION, compile=False
            )
        except Exception as error:
            # A file that is no weight file fails in as many ways as there are files.
            raise ValueError(
                f"{self.weights}: not the weights of {self.method} ({type(error).__name__}: {error}); "
                f"get them from {DOWNLOADS} and name the file in label.weights"
            ) from error
        return ORBCalculator(model, device=next(model.parameters()).device)

    def _label(self, atoms: Atoms) -> Labels | Failure:
        try:
            charge, multiplicity = charge_and_multiplicity(atoms)
        except ValueError as error:
            return Failure(str(error))
        if (charge, multiplicity) != (0, 1) and not self._calculator.expects_charge_and_spin:
            return Failure(f"{self.method} knows no charge or spin, got charge {charge}, multiplicity {multiplicity}")
        if atoms.pbc.any() and self._calculator.expects_charge_and_spin:
            return Failure(f"{self.method} was taught molecules, got a structure periodic along {atoms.pbc.tolist()}")
        plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        plain.info.update(charge=charge, spin=multiplicity)
        self._calculator.calculate(plain)
        energy = float(self._calculator.results["energy"])
        forces = np.asarray(self._calculator.results["forces"], dtype=np.float64).reshape(-1, 3)
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            return Failure(f"{self.method} returned an energy or a force that is not finite")
        return Labels(energy, forces)


@contextmanager
def _defaults_kept() -> Iterator[None]:
    """Orb sets torch's default precision for the whole process, and warns that it does; neither leaves this file."""
    import torch

    dtype, matmul = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Setting global torch default dtype")
            warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message="Consider passing 'precision=float32-high'")
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_float32_matmul_precision(matmul)


def make(method: str, weights: str | Path | None, settings: Mapping[str, Any]) -> Orb:
    """The teacher at ``method`` with the weights in the local file ``weights``.

    Raises
    ------
    FileNotFoundError
        There is no such file; nothing is ever downloaded.
    """
    if weights is None or not Path(weights).is_file():
        found = "no weight file is named" if weights is None else f"{weights}: no such file"
        raise FileNotFoundError(
            f"teacher 'orb', method {method!r}: {found}. Download it from {DOWNLOADS} (the name is in "
            "orb_models.forcefield.pretrained) and give its path in label.weights"
        )
    return Orb(method, Path(weights))
