"""Extended tight binding through tblite, one thread: independent single points, positions in Å, labels in eV."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree

from hydrogate.models.teachers import Failure, Labels, charge_and_multiplicity

METHODS = ("GFN2-xTB", "GFN1-xTB", "IPEA1-xTB")
# tblite's own defaults, written down because the labels depend on them: the self-consistency threshold (a factor on
# 1e-6 Hartree), the electronic temperature in Hartree (300 K), and how long the self-consistency may take.
# Source: tblite.interface.Calculator.set, tblite 0.8.
SETTINGS = {"accuracy": 1.0, "temperature": 9.5e-4, "max-iter": 250}


class Xtb:
    """Energies, forces, Mulliken charges and dipoles of isolated or periodic structures at ``method``.

    At GFN2-xTB atoms have dipoles of their own, so that the charges alone do not make the molecule's dipole.
    """

    dipoles = True

    def __init__(self, method: str) -> None:
        self.method = method

    def identity(self) -> dict[str, Any]:
        """Name, version and settings."""
        return {
            "name": "xtb",
            "method": self.method,
            "program": "tblite",
            "version": version("tblite"),
            "settings": dict(SETTINGS),
        }

    def label(self, structures: Sequence[Atoms]) -> list[Labels | Failure]:
        """One entry a structure; a self-consistency that does not converge is a `Failure`."""
        import tblite.interface  # noqa: F401, so that its OpenMP library is loaded when the limit is set
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1):
            return [self._label(atoms) for atoms in structures]

    def _label(self, atoms: Atoms) -> Labels | Failure:
        from tblite.exceptions import TBLiteRuntimeError, TBLiteTypeError, TBLiteValueError
        from tblite.interface import Calculator

        try:
            charge, multiplicity = charge_and_multiplicity(atoms)
            calculator = Calculator(
                self.method,
                atoms.numbers,
                atoms.positions / Bohr,
                charge=charge,
                uhf=multiplicity - 1,
                lattice=np.asarray(atoms.cell) / Bohr if atoms.pbc.any() else None,
                periodic=atoms.pbc if atoms.pbc.any() else None,
            )
            calculator.set("verbosity", 0)
            for name, value in SETTINGS.items():
                calculator.set(name, value)
            result = calculator.singlepoint()
            energy = float(result.get("energy")) * Hartree
            forces = -np.asarray(result.get("gradient"), dtype=np.float64) * (Hartree / Bohr)
            charges = np.array(result.get("charges"), dtype=np.float64)
            # In e·bohr. That of a lattice is no property of it.
            dipole = None if atoms.pbc.any() else np.array(result.get("dipole"), dtype=np.float64) * Bohr
        except (TBLiteRuntimeError, TBLiteTypeError, TBLiteValueError, ValueError) as error:
            return Failure(str(error))
        numbers = (energy, forces, charges, () if dipole is None else dipole)
        if not all(np.isfinite(values).all() for values in numbers):
            return Failure(f"{self.method} returned an energy, force, charge or dipole that is not finite")
        return Labels(energy, forces, dipole, charges)


def make(method: str, weights: str | Path | None) -> Xtb:
    """The teacher at ``method``; xTB has no weights, so any are refused."""
    if weights is not None:
        raise ValueError(f"label.weights is {str(weights)!r}, but teacher 'xtb' has no weights; set it to null")
    return Xtb(method)
