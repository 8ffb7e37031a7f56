"""What a reader is: a function found by its name, its suffixes, and the units that its format's convention means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

from ase import units

from hydrogate.checks.dataset import Dataset
from hydrogate.checks.declared import BadParams, did_you_mean

# As a key: the quantity is not to be read.
NONE = "none"
QUANTITIES = ("energy", "forces", "charge", "spin", "smiles", "numbers", "positions")


class Units(NamedTuple):
    """What one unit of a file's lengths and energies is in Å and eV."""

    length: float
    energy: float

    @property
    def force(self) -> float:
        """What one unit of its forces is in eV/Å."""
        return self.energy / self.length


# Source: ase.units (CODATA 2014).
UNIT_SYSTEMS = {
    "eV,angstrom": Units(1.0, 1.0),
    "hartree,bohr": Units(units.Bohr, units.Hartree),
    "hartree,angstrom": Units(1.0, units.Hartree),
    "kcal/mol,angstrom": Units(1.0, units.kcal / units.mol),
    "kJ/mol,nm": Units(units.nm, units.kJ / units.mol),
}


@dataclass(frozen=True)
class ReadOptions:
    """What the caller declares about a file.

    Parameters
    ----------
    keys : mapping of str to str
        What the file calls a quantity, one of ``QUANTITIES``; ``none`` leaves it unread, a minus in front of the key of
        the forces changes their sign.
    units : str, optional
        One of ``UNIT_SYSTEMS``; the format's convention where it is left out.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    units: str | None = None

    def scale(self, convention: str) -> Units:
        """The declared units, else those of ``convention``.

        Raises
        ------
        BadParams
            The units are unknown.
        """
        name = self.units or convention
        if name not in UNIT_SYSTEMS:
            raise BadParams(f"--units {name!r} is unknown{did_you_mean(name, UNIT_SYSTEMS)}")
        return UNIT_SYSTEMS[name]

    def scale_of_known_keys(self, convention: str, expected: Mapping[str, tuple[str, ...]]) -> Units:
        """As :meth:`scale`, but a convention says nothing of keys that are not its own.

        Raises
        ------
        BadParams
            A key of positions, energy or forces is another than ``expected``, and no units are declared.
        """
        for quantity in ("positions", "energy", "forces"):
            key = self.keys.get(quantity, NONE)
            if self.units is None and key != NONE and key not in expected[quantity]:
                raise BadParams(
                    f"--keys {quantity}={key} is no key of the format's convention, so that its units do not hold "
                    f"either: declare them with --units ({', '.join(UNIT_SYSTEMS)})"
                )
        return self.scale(convention)


Reader: TypeAlias = Callable[[Path, ReadOptions], Dataset]


@dataclass(frozen=True)
class Format:
    """A format: its reader, the suffixes that tell it, its units and whose convention they are."""

    read: Reader
    suffixes: tuple[str, ...]
    units: str
    convention: str


FORMATS: dict[str, Format] = {}


def reader(*suffixes: str, units: str, convention: str) -> Callable[[Reader], Reader]:
    """Declare the decorated function ``read_<format>`` as the reader of that format."""

    def declare(read: Reader) -> Reader:
        FORMATS[read.__name__.removeprefix("read_")] = Format(read, suffixes, units, convention)
        return read

    return declare


def parse_keys(text: str | None) -> dict[str, str]:
    """``energy=REF_energy,forces=-gradient`` as a mapping.

    Raises
    ------
    BadParams
        A part is no QUANTITY=KEY, or the quantity is unknown or named twice.
    """
    keys: dict[str, str] = {}
    for part in text.split(",") if text else []:
        quantity, _, key = (piece.strip() for piece in part.partition("="))
        if not quantity or not key:
            raise BadParams(f"--keys {part!r} is no QUANTITY=KEY, such as energy=REF_energy,forces=REF_forces")
        if quantity not in QUANTITIES:
            raise BadParams(f"--keys {quantity!r} is no quantity{did_you_mean(quantity, QUANTITIES)}")
        if quantity in keys:
            raise BadParams(f"--keys names {quantity} twice: {keys[quantity]!r} and {key!r}")
        keys[quantity] = key
    return keys
