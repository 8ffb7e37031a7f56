"""Keys of energies and forces in the data: expected keys are found, similar ones are rejected with a suggestion.

A label stored under another key is easily overlooked: the data are read as unlabelled, and the student is trained on
energies only. Therefore a quantity is either found, or declared absent (``none``), or no other key resembles it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np

from hydrogate.checks.data.units import UNIT_SYSTEMS, Units
from hydrogate.checks.errors import BadParams, UnreadableData, did_you_mean

# Special key: do not read the quantity.
NONE = "none"
QUANTITIES = ("energy", "forces", "charge", "spin", "smiles", "numbers", "positions")
# Patterns match lower-case names without digits and punctuation. Gradients are tested before forces, because the sign
# differs.
_GRADIENT = re.compile(r"grad|^g$|deriv|^de?dr?x?$|jacob")
_LOOKS_LIKE = {
    "energy": (re.compile(r"energ|^e$|^e(tot|total|dft|pot|scf|ref|xtb)|^(tot|pot|ref|dft|scf)e$|^u$|^eng|eng$"),
               ("energy", "energies")),
    "forces": (re.compile(r"forc|frc|^f$|^f(dft|ref|tot|xtb)$"), ("force", "forces")),
    "charge": (re.compile(r"^(net|tot|total|mol|molecular|ref|formal)?(charge|chg)$"), ("charge",)),
    "spin": (re.compile(r"^(ref|total|tot|mol)?(spin|spinmult|mult|multiplicity|spinmultiplicity)$"),
             ("multiplicity",)),
}  # fmt: skip


@dataclass(frozen=True)
class ReadOptions:
    """Keys and units of the data, as declared by the caller.

    Parameters
    ----------
    keys : mapping of str to str
        Key of each quantity in the data; quantities are those of ``QUANTITIES``. The key ``none`` ignores the
        quantity; a minus in front of the key of the forces changes their sign.
    units : str, optional
        One of ``UNIT_SYSTEMS``; the default is the convention of the format.
    in_python : bool
        True if declared by keyword arguments; messages then use Python syntax instead of command-line options.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    units: str | None = None
    in_python: bool = False

    def __post_init__(self) -> None:
        for quantity in self.keys:
            if quantity not in QUANTITIES:
                raise BadParams(
                    f"{self.keyword('keys')}: unknown quantity {quantity!r}{did_you_mean(quantity, QUANTITIES)}"
                )

    def keyword(self, name: str) -> str:
        """Return an option in the caller's syntax: ``--keys``, or ``keys=`` in Python."""
        return f"{name}=" if self.in_python else f"--{name}"

    def spelled(self, quantity: str, key: str) -> str:
        """Return a key declaration in the caller's syntax, ``--keys forces=force`` or ``keys={"forces": "force"}``."""
        return f'keys={{"{quantity}": "{key}"}}' if self.in_python else f"--keys {quantity}={key}"

    def scale(self, convention: str) -> Units:
        """Return the declared units, or those of ``convention``.

        Raises
        ------
        BadParams
            The units are unknown.
        """
        name = self.units or convention
        if name not in UNIT_SYSTEMS:
            raise BadParams(f"{self.keyword('units')} {name!r} is unknown{did_you_mean(name, UNIT_SYSTEMS)}")
        return UNIT_SYSTEMS[name]

    def scale_of_known_keys(self, convention: str, expected: Mapping[str, tuple[str, ...]]) -> Units:
        """Return units as :meth:`scale` does, but require declared units for keys outside the convention.

        Raises
        ------
        BadParams
            A key of positions, energy or forces is not in ``expected``, and no units are declared.
        """
        for quantity in ("positions", "energy", "forces"):
            key = self.keys.get(quantity, NONE)
            if self.units is None and key != NONE and key not in expected[quantity]:
                raise BadParams(
                    f"{self.spelled(quantity, key)} is not a key of the format's convention, so its units may not "
                    f"apply: declare the units with {self.keyword('units')} ({', '.join(UNIT_SYSTEMS)})"
                )
        return self.scale(convention)


class Named(NamedTuple):
    """Value that was found, its key, and the sign (1 or -1) that converts it to the quantity."""

    key: str
    value: Any
    sign: int


def is_gradient(key: str) -> bool:
    """Return True if ``key`` names a gradient, the negative of the forces."""
    return _GRADIENT.search(_plain(key)) is not None


def lookalike(quantity: str, keys: list[str]) -> str | None:
    """Return the first of ``keys`` that seems to name ``quantity``; a gradient counts as forces."""
    pattern, words = _LOOKS_LIKE[quantity]
    for key in keys:
        plain = _plain(key)
        if quantity == "forces" and is_gradient(key):
            return key
        # An energy gradient is not an energy.
        if pattern.search(plain) and not is_gradient(key):
            return key
        if len(plain) > 3 and get_close_matches(plain, words, n=1, cutoff=0.8):
            return key
    return None


def _plain(key: str) -> str:
    return re.sub(r"[^a-z]", "", key.lower())


def _unsigned(key: str) -> str:
    return key.removeprefix("-").removeprefix("+")


class KeyChoice:
    """Lookup of quantities by the declared key, or by the first expected key that is present.

    Parameters
    ----------
    source : str
        File name, for messages.
    options : ReadOptions
    expected : mapping of str to tuple of str
        Keys of the format's convention; a minus in front marks a key that stores the negative.
    """

    def __init__(self, source: str, options: ReadOptions, expected: Mapping[str, tuple[str, ...]]) -> None:
        self._source, self._options, self._expected = source, options, expected
        self._seen: set[str] = set()
        self._labelled: dict[str, bool] = {}
        self._cleared: dict[str, tuple[str, ...]] = {}
        for quantity in options.keys:
            if quantity not in expected:
                raise BadParams(
                    f"{source}: {options.spelled(quantity, '…')} does not apply here{did_you_mean(quantity, expected)}"
                )

    def find(
        self, quantity: str, where: str, found: Mapping[str, Any], fits: Callable[[Any], bool] = lambda _: True
    ) -> Named | None:
        """Find ``quantity`` in the values ``found`` at ``where``; None if it is declared absent or seems absent.

        Parameters
        ----------
        fits : callable
            Returns True if a value has the form of the quantity; only such values are suggested.

        Raises
        ------
        BadParams
            Another key resembles the quantity, two keys have different values, or the key names a gradient.
        """
        declared = self._options.keys.get(quantity)
        if declared == NONE:
            return None
        keys = {_unsigned(key): key for key in ((declared,) if declared else self._expected[quantity])}
        present = [key for key in keys if key in found]
        if not present:
            self._refuse_lookalike(quantity, where, list(keys), found, fits)
            return None
        key = present[0]
        if declared is not None:
            self._refuse_sign(quantity, declared)
        for other in present[1:]:
            if not np.array_equal(np.asarray(found[key]), np.asarray(found[other])):
                raise BadParams(
                    f"{self._source}: {where} has both {key!r} and {other!r}, with different values; "
                    f"choose one with {self._options.spelled(quantity, key)}"
                )
        self._seen.add(quantity)
        return Named(key, found[key], -1 if keys[key].startswith("-") else 1)

    def need(self, quantity: str, where: str, found: Mapping[str, Any]) -> Any:
        """Return the value of a quantity that every structure must have.

        Raises
        ------
        UnreadableData
            The quantity is missing.
        """
        named = self.find(quantity, where, found)
        if named is None:
            keys = self._expected[quantity]
            raise UnreadableData(
                f"{self._source}: {where} has no {keys[0]!r} for the {quantity}; it has {', '.join(found)}: "
                f"set the key with {self._options.spelled(quantity, 'KEY')}"
            )
        return named.value

    def refuse_mixture(self, where: str, labels: Mapping[str, Named | None]) -> None:
        """Raise UnreadableData if a label is present that was absent before, or the reverse."""
        for quantity, named in labels.items():
            has = named is not None
            if self._labelled.setdefault(quantity, has) != has:
                raise UnreadableData(
                    f"{self._source}: {where} has {'' if has else 'no '}{quantity}, unlike those before it: label all "
                    f"or none, or ignore the {quantity} with {self._options.spelled(quantity, NONE)}"
                )

    def _refuse_sign(self, quantity: str, declared: str) -> None:
        spelled = self._options.spelled
        key = _unsigned(declared)
        if key != declared and quantity != "forces":
            raise BadParams(f"{spelled(quantity, declared)}: only the key of the forces takes a sign")
        if key == declared and quantity == "forces" and is_gradient(key):
            raise BadParams(
                f"{self._source}: the name {key!r} suggests a gradient, and forces are the negative gradient: "
                f"{spelled(quantity, f'-{key}')} changes the sign, {spelled(quantity, f'+{key}')} does not"
            )

    def _refuse_lookalike(
        self,
        quantity: str,
        where: str,
        keys: list[str],
        found: Mapping[str, Any],
        fits: Callable[[Any], bool],
    ) -> None:
        # If earlier structures have the label, refuse_mixture gives a better message.
        if quantity not in _LOOKS_LIKE or self._labelled.get(quantity):
            return
        # Most frames have the same keys as the frame before.
        if self._cleared.get(quantity) == tuple(found):
            return
        other = lookalike(quantity, [key for key, value in found.items() if fits(value)])
        if other is None:
            self._cleared[quantity] = tuple(found)
            return
        spelled = self._options.spelled
        missing = f"{self._source}: {where} has no {' or '.join(map(repr, keys))} for the {quantity}"
        shape = f" of shape {np.shape(found[other])}" if np.ndim(found[other]) else ""
        if quantity == "forces" and is_gradient(other):
            raise BadParams(
                f"{missing}, but {other!r}{shape}; the name suggests a gradient, and forces are the negative gradient: "
                f"{spelled(quantity, f'-{other}')} changes the sign ({spelled(quantity, NONE)} ignores it)"
            )
        raise BadParams(
            f"{missing}, but {other!r}{shape}: did you mean {spelled(quantity, other)}? "
            f"({spelled(quantity, NONE)} ignores it)"
        )

    def refuse_unseen(self, found: Mapping[str, Any]) -> None:
        """Raise BadParams if a declared key was never found; ``found`` holds the values of one structure."""
        for quantity, key in self._options.keys.items():
            if key != NONE and quantity not in self._seen:
                raise BadParams(
                    f"{self._source}: no structure has {_unsigned(key)!r}, declared by {self._options.keyword('keys')} "
                    f"as the {quantity}"
                    f"{did_you_mean(_unsigned(key), found)}"
                )
