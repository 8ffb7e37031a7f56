"""Supported unit systems of input data, with conversion factors to eV and Å."""

from typing import NamedTuple

from ase import units


class Units(NamedTuple):
    """Conversion factors of lengths to Å and of energies to eV."""

    length: float
    energy: float

    @property
    def force(self) -> float:
        """Conversion factor of forces to eV/Å."""
        return self.energy / self.length


# Source: ase.units (CODATA 2014).
UNIT_SYSTEMS = {
    "eV,angstrom": Units(1.0, 1.0),
    "hartree,bohr": Units(units.Bohr, units.Hartree),
    "hartree,angstrom": Units(1.0, units.Hartree),
    "kcal/mol,angstrom": Units(1.0, units.kcal / units.mol),
    "kJ/mol,nm": Units(units.nm, units.kJ / units.mol),
}
