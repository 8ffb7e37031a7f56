"""The units that data may come in, and what one of each is in eV and Å."""

from typing import NamedTuple

from ase import units


class Units(NamedTuple):
    """What one unit of the data's lengths and energies is in Å and eV."""

    length: float
    energy: float

    @property
    def force(self) -> float:
        """What one unit of their forces is in eV/Å."""
        return self.energy / self.length


# Source: ase.units (CODATA 2014).
UNIT_SYSTEMS = {
    "eV,angstrom": Units(1.0, 1.0),
    "hartree,bohr": Units(units.Bohr, units.Hartree),
    "hartree,angstrom": Units(1.0, units.Hartree),
    "kcal/mol,angstrom": Units(1.0, units.kcal / units.mol),
    "kJ/mol,nm": Units(units.nm, units.kJ / units.mol),
}
