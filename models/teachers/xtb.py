"""Extended tight binding through tblite on one thread: independent single points, positions in Å, labels in eV."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree

from hydrogate.models.teachers import Failure, Labels, charge_and_multiplicity
from hydrogate.models.teachers._molecule import refuse_no_molecule

if TYPE_CHECKING:
    from tblite.interface import Calculator, Result

METHODS = ("GFN2-xTB", "GFN1-xTB", "IPEA1-xTB")
# tblite's own defaults, listed here because the labels depend on them: the self-consistency threshold (a factor on
# 1e-6 Hartree), the electronic temperature in Hartree (300 K), and the maximum number of iterations.
# Source: tblite.interface.Calculator.set, tblite 0.8. In 25 sample structures, the forces at accuracy 1 differ by
# 4e-5 eV/Å (RMS) and at most 4e-4 from those at 1e-4; 0.1 and 0.01 divide that by 9 and 100 and cost 17 % and 32 %
# more time.
SETTINGS = {"accuracy": 1.0, "temperature": 9.5e-4, "max-iter": 250}


class Attempt(NamedTuple):
    """Attempt at self-consistency: settings in addition to the declared ones, and initial temperatures (Hartree).

    The labels always have the declared threshold and temperature. A result at a higher temperature is only the initial
    guess for the next lower one, never a label.
    """

    name: str
    settings: dict[str, float]
    temperatures: tuple[float, ...] = ()


# The mixer keeps few steps: all of them, tblite's default, cost seconds in 500 cycles of two atoms.
_DAMPED = {"mixer-damping": 0.05, "mixer-memory": 20, "max-iter": 500}
_COOLING = (9.5e-3, 4.8e-3, 1.9e-3)
ATTEMPTS = (
    Attempt("the declared settings", {}),
    Attempt("damping 0.05", _DAMPED),
    Attempt("damping 0.2 from 3000, 1500 and 600 K", {"mixer-damping": 0.2}, _COOLING),
    Attempt("damping 0.1 from 3000, 1500 and 600 K", {"mixer-damping": 0.1}, _COOLING),
)


class Xtb:
    """Energies, forces, Mulliken charges and dipoles of isolated or periodic structures at ``method``.

    With GFN2-xTB, atoms have their own dipoles, so the charges alone do not give the molecule's dipole.
    """

    dipoles = True
    batch = 1

    def __init__(self, method: str, settings: Mapping[str, float]) -> None:
        self.method, self.settings = method, settings

    def identity(self) -> dict[str, Any]:
        """Return name, version and settings."""
        return {
            "name": "xtb",
            "method": self.method,
            "program": "tblite",
            "version": version("tblite"),
            "settings": dict(self.settings),
        }

    def label(self, structures: Sequence[Atoms]) -> list[Labels | Failure]:
        """Label each structure; a `Failure` if it is not a molecule or does not reach self-consistency."""
        import tblite.interface  # noqa: F401, so that its OpenMP library is loaded when the limit is set
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1):
            return [self._label(atoms) for atoms in structures]

    def _label(self, atoms: Atoms) -> Labels | Failure:
        from tblite.exceptions import TBLiteRuntimeError, TBLiteTypeError, TBLiteValueError

        try:
            refuse_no_molecule(atoms)
            result = self._converged(atoms)
            energy = float(result.get("energy")) * Hartree
            forces = -np.asarray(result.get("gradient"), dtype=np.float64) * (Hartree / Bohr)
            charges = np.array(result.get("charges"), dtype=np.float64)
            # In e·bohr. The dipole of a lattice is not well defined.
            dipole = None if atoms.pbc.any() else np.array(result.get("dipole"), dtype=np.float64) * Bohr
        except (TBLiteRuntimeError, TBLiteTypeError, TBLiteValueError, ValueError) as error:
            return Failure(str(error))
        numbers = (energy, forces, charges, () if dipole is None else dipole)
        if not all(np.isfinite(values).all() for values in numbers):
            return Failure(f"{self.method} returned an energy, force, charge or dipole that is not finite")
        return Labels(energy, forces, dipole, charges)

    def _converged(self, atoms: Atoms) -> "Result":
        """Return the single point of the first of ``ATTEMPTS`` that converges.

        Raises
        ------
        TBLiteRuntimeError
            With tblite's messages and the attempts.
        """
        from tblite.exceptions import TBLiteRuntimeError

        said: list[str] = []
        for attempt in ATTEMPTS:
            calculator = self._calculator(atoms, attempt.settings)
            result: Result | None = None
            try:
                for temperature in attempt.temperatures:
                    calculator.set("temperature", temperature)
                    result = calculator.singlepoint(result)
                calculator.set("temperature", self.settings["temperature"])
                return calculator.singlepoint(result)
            except TBLiteRuntimeError as error:
                said.append(f"{error} with {attempt.name}")
        raise TBLiteRuntimeError("; ".join(said))

    def _calculator(self, atoms: Atoms, settings: Mapping[str, float]) -> "Calculator":
        from tblite.interface import Calculator

        charge, multiplicity = charge_and_multiplicity(atoms)
        periodic = atoms.pbc.any()
        calculator = Calculator(
            self.method,
            atoms.numbers,
            atoms.positions / Bohr,
            charge=charge,
            uhf=multiplicity - 1,
            lattice=np.asarray(atoms.cell) / Bohr if periodic else None,
            periodic=atoms.pbc if periodic else None,
        )
        for name, value in {"verbosity": 0, **self.settings, **settings}.items():
            calculator.set(name, value)
        return calculator


def make(method: str, weights: str | Path | None, settings: Mapping[str, Any]) -> Xtb:
    """Return the teacher at ``method``; xTB has no weights, so any are rejected.

    Raises
    ------
    ValueError
        Weights are given, or a setting is not a positive number.
    """
    if weights is not None:
        raise ValueError(f"label.weights is {str(weights)!r}, but teacher 'xtb' has no weights; set it to null")
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < np.inf:
            raise ValueError(f"label.settings.{name} is {value!r}; teacher 'xtb' needs a number above zero")
    # Converted to the type of the default, so that equal settings have equal identities.
    return Xtb(method, {name: type(SETTINGS[name])(value) for name, value in settings.items()})
