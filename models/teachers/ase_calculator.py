"""ASE calculators as teachers, by import path and constructor arguments: energies in eV, forces in eV/Å.

Importing and constructing a calculator runs code, so both come from the caller's own parameters and never from a data
set. Each structure gets its own calculator and folder, so that no result depends on another structure: not through a
cached result, a warm start or an output file.
"""

import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib.metadata import packages_distributions, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ase import Atoms

from hydrogate.models.names import refuse_unknown
from hydrogate.models.teachers import Failure, Labels, charge_and_multiplicity
from hydrogate.models.teachers._molecule import refuse_no_molecule

METHODS = ()  # any import path
# ``charge``, ``multiplicity`` (2S + 1) and ``unpaired`` (2S): how to pass them to the calculator, as the name of a
# constructor argument, or info.NAME for an entry of atoms.info; None: not at all. ``reuse`` keeps one calculator, for
# those that take long to construct, and resets it before each structure. ``conservative`` is True if F = −∇E.
SETTINGS: dict[str, Any] = {
    "arguments": {},
    "charge": None,
    "multiplicity": None,
    "unpaired": None,
    "reuse": False,
    "conservative": True,
}
_TOLD = ("charge", "multiplicity", "unpaired")


class AseCalculator:
    """Energies and forces of the calculator that ``construct``, found at the import path ``method``, returns."""

    dipoles = False
    batch = 1

    def __init__(self, method: str, construct: Callable[..., Any], settings: Mapping[str, Any]) -> None:
        self.method, self._construct, self._settings = method, construct, settings
        self._kept: dict[str, Any] = {}

    def identity(self) -> dict[str, Any]:
        """Return import path, arguments and package version; files in the arguments are identified by their content."""
        return self._identity

    @cached_property
    def _identity(self) -> dict[str, Any]:
        program, found = _version_of(self._construct)
        told = {name: self._settings[name] for name in _TOLD}
        arguments = self._settings["arguments"]
        files = {
            name: hashlib.sha256(Path(value).read_bytes()).hexdigest()
            for name, value in arguments.items()
            if isinstance(value, str) and Path(value).is_file()
        }
        return {
            "name": "ase_calculator",
            "method": self.method,
            "program": program,
            "version": found,
            "settings": {"arguments": arguments, **told, **({"files_sha256": files} if files else {})},
            **({} if self._settings["conservative"] else {"conservative": False}),
        }

    def label(self, structures: Sequence[Atoms]) -> list[Labels | Failure]:
        """Label each structure; an error of the calculator gives a `Failure` with its message.

        Raises
        ------
        ValueError
            The calculator cannot be constructed, gives no forces, or lacks something that every structure needs.
        """
        return [self._label(atoms) for atoms in structures]

    def _label(self, atoms: Atoms) -> Labels | Failure:
        plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        try:
            refuse_no_molecule(atoms)
            arguments, plain.info = self._told(atoms)
        except ValueError as error:
            return Failure(str(error))
        calculator = self._calculator(arguments)
        with TemporaryDirectory() as folder:
            if hasattr(calculator, "directory") and "directory" not in arguments:
                calculator.directory = folder
            return self._asked(calculator, plain)

    def _told(self, atoms: Atoms) -> tuple[dict[str, Any], dict[str, int]]:
        """Return the constructor's arguments and ``atoms.info``, with charge and spin as the calculator needs them."""
        charge, multiplicity = charge_and_multiplicity(atoms)
        arguments: dict[str, Any] = dict(self._settings["arguments"])
        info: dict[str, int] = {}
        for name, value in zip(_TOLD, (charge, multiplicity, multiplicity - 1), strict=True):
            if key := self._settings[name]:
                place: dict[str, Any] = info if key.startswith("info.") else arguments
                place[key.removeprefix("info.")] = value
        if charge and not self._settings["charge"]:
            raise ValueError(f"charge {charge}, but label.settings.charge does not say how to pass it to {self.method}")
        if multiplicity > 1 and not (self._settings["multiplicity"] or self._settings["unpaired"]):
            raise ValueError(
                f"spin multiplicity {multiplicity}, but neither label.settings.multiplicity nor unpaired says how to "
                f"pass it to {self.method}"
            )
        return arguments, info

    def _calculator(self, arguments: dict[str, Any]) -> Any:
        key = json.dumps(arguments, sort_keys=True)
        if key in self._kept:
            calculator = self._kept[key]
            calculator.reset()
            if calculator.results:
                raise ValueError(f"{self.method} keeps results when it is reset; set label.settings.reuse to false")
            return calculator
        try:
            calculator = self._construct(**arguments)
        except Exception as error:
            raise ValueError(
                f"label.settings.arguments {arguments}: {self.method} raised {type(error).__name__}: {error}"
            ) from error
        if self._settings["reuse"]:
            self._kept[key] = calculator
        return calculator

    def _asked(self, calculator: Any, atoms: Atoms) -> Labels | Failure:
        from ase.calculators.calculator import BadConfiguration, EnvironmentError, PropertyNotImplementedError

        positions = atoms.positions.copy()
        atoms.calc = calculator
        try:
            answer = atoms.get_forces()  # type: ignore[no-untyped-call]  # ASE has no types here
            forces = np.array(answer, dtype=np.float64)
            energy = atoms.get_potential_energy()  # type: ignore[no-untyped-call]  # as above
            # If electrons have a temperature, forces are the gradient of the free energy.
            free = getattr(calculator, "results", {}).get("free_energy")
            energy = float(energy if free is None else free)
        except PropertyNotImplementedError as error:
            raise ValueError(f"label.method {self.method} gives no energy or no forces: {error}") from error
        except (BadConfiguration, EnvironmentError, FileNotFoundError, ImportError) as error:
            # Not caused by the structure: a program or a file of the calculator is missing.
            raise ValueError(f"{self.method}: {type(error).__name__}: {error}") from error
        except Exception as error:
            # Compared by name: PyTorch has its own class, and PyTorch is not imported here.
            of_the_machine = isinstance(error, MemoryError | OSError) or type(error).__name__ == "OutOfMemoryError"
            return Failure(f"{self.method}: {type(error).__name__}: {error}", lasting=not of_the_machine)
        if not np.array_equal(atoms.positions, positions):
            return Failure(f"{self.method} moved the atoms, so its label belongs to another structure")
        if forces.shape != positions.shape:
            return Failure(f"{self.method} returned forces of shape {forces.shape} for {len(atoms)} atoms")
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            return Failure(f"{self.method} returned an energy or a force that is not finite")
        return Labels(energy, forces)


def _version_of(construct: Callable[..., Any]) -> tuple[str, str]:
    """Return the package of ``construct`` and its version; for a module outside packages, the hash of its content."""
    module = construct.__module__
    for package in packages_distributions().get(module.partition(".")[0], ()):
        return package, version(package)
    return module, "sha256:" + hashlib.sha256(Path(inspect.getfile(construct)).read_bytes()).hexdigest()


def _imported(path: str) -> Callable[..., Any]:
    module_name, _, name = path.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(f"label.method {path!r}: expected an import path, such as ase.calculators.emt.EMT")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"label.method {path!r}: {error}; install its package or correct the path") from error
    refuse_unknown(f"name in label.method, module {module_name}:", name, vars(module))
    construct: Callable[..., Any] = getattr(module, name)
    if not callable(construct):
        raise ValueError(f"label.method {path!r} is not a class or function that makes a calculator")
    return construct


def make(method: str, weights: str | Path | None, settings: Mapping[str, Any]) -> AseCalculator:
    """Return the calculator at the import path ``method``: imported here, constructed for each structure.

    Raises
    ------
    ValueError
        There is no such calculator, weights are given, or a setting is invalid.
    """
    if weights is not None:
        raise ValueError("label.weights: a calculator takes its files as arguments; name the file in label.settings")
    if not isinstance(settings["arguments"], Mapping):
        raise ValueError(f"label.settings.arguments: expected a mapping, got {settings['arguments']!r}")
    try:
        json.dumps(settings["arguments"], allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"label.settings.arguments: only numbers, strings, lists and mappings: {error}") from error
    for name, kind in (*((name, str | None) for name in _TOLD), ("reuse", bool), ("conservative", bool)):
        if not isinstance(settings[name], kind):
            raise ValueError(f"label.settings.{name} is {settings[name]!r}; expected {getattr(kind, '__name__', kind)}")
    return AseCalculator(method, _imported(method), settings)
