"""What data call their energies and forces: found under the expected key, or refused with what was probably meant.

Nothing is more easily overlooked than a label under another key: the data read as unlabelled, and the student trains
on energies alone. So a quantity is either found, or declared absent (``none``), or nothing there looks like it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np

from hydrogate.checks.data.units import UNIT_SYSTEMS, Units
from hydrogate.checks.errors import BadParams, UnreadableData, did_you_mean

# As a key: the quantity is not to be read.
NONE = "none"
QUANTITIES = ("energy", "forces", "charge", "spin", "smiles", "numbers", "positions")
# Names without digits and punctuation, in lower case. A gradient is looked for before forces: its sign matters.
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
    """What the caller declares about data.

    Parameters
    ----------
    keys : mapping of str to str
        What the data call a quantity, one of ``QUANTITIES``; ``none`` leaves it unread, a minus in front of the key of
        the forces changes their sign.
    units : str, optional
        One of ``UNIT_SYSTEMS``; the format's convention where it is left out.
    in_python : bool
        Declared by keyword arguments: messages spell them so, and not as options of the command line.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    units: str | None = None
    in_python: bool = False

    def __post_init__(self) -> None:
        for quantity in self.keys:
            if quantity not in QUANTITIES:
                raise BadParams(
                    f"{self.keyword('keys')} {quantity!r} is no quantity{did_you_mean(quantity, QUANTITIES)}"
                )

    def keyword(self, name: str) -> str:
        """How the caller spells an option: ``--keys``, or ``keys=`` in Python."""
        return f"{name}=" if self.in_python else f"--{name}"

    def spelled(self, quantity: str, key: str) -> str:
        """How the caller declares a key: ``--keys forces=force``, or ``keys={"forces": "force"}`` in Python."""
        return f'keys={{"{quantity}": "{key}"}}' if self.in_python else f"--keys {quantity}={key}"

    def scale(self, convention: str) -> Units:
        """The declared units, else those of ``convention``.

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
                    f"{self.spelled(quantity, key)} is no key of the format's convention, so that its units do not "
                    f"hold either: declare them with {self.keyword('units')} ({', '.join(UNIT_SYSTEMS)})"
                )
        return self.scale(convention)


class Named(NamedTuple):
    """A value found, and the factor (1 or -1) that makes it the quantity."""

    key: str
    value: Any
    sign: int


def is_gradient(key: str) -> bool:
    """Whether ``key`` names a gradient, whose negative the forces are."""
    return _GRADIENT.search(_plain(key)) is not None


def lookalike(quantity: str, keys: list[str]) -> str | None:
    """The first of ``keys`` that seems to name ``quantity``; a gradient counts as forces."""
    pattern, words = _LOOKS_LIKE[quantity]
    for key in keys:
        plain = _plain(key)
        if quantity == "forces" and is_gradient(key):
            return key
        # An energy gradient is no energy.
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
    """Finds quantities by the declared key, else by the first expected one that is there.

    Parameters
    ----------
    source : str
        The file, for messages.
    options : ReadOptions
    expected : mapping of str to tuple of str
        The keys of the format's convention, one with a minus in front where it holds the negative.
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
        """``quantity`` among what was ``found`` at ``where``; None where it is declared or seems absent.

        Parameters
        ----------
        fits : callable
            Whether a value has the form of the quantity: only such a value can be what was meant.

        Raises
        ------
        BadParams
            Something else there looks like the quantity, two keys disagree about it, or the key names a gradient.
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
                    f"{self._source}: {where} has both {key!r} and {other!r}, and they differ; "
                    f"say which with {self._options.spelled(quantity, key)}"
                )
        self._seen.add(quantity)
        return Named(key, found[key], -1 if keys[key].startswith("-") else 1)

    def need(self, quantity: str, where: str, found: Mapping[str, Any]) -> Any:
        """The value of a quantity without which there is no structure.

        Raises
        ------
        UnreadableData
            It is not there.
        """
        named = self.find(quantity, where, found)
        if named is None:
            keys = self._expected[quantity]
            raise UnreadableData(
                f"{self._source}: {where} has no {keys[0]!r} for the {quantity}; it has {', '.join(found)}: "
                f"name the key with {self._options.spelled(quantity, 'KEY')}"
            )
        return named.value

    def refuse_mixture(self, where: str, labels: Mapping[str, Named | None]) -> None:
        """Raise UnreadableData where a label is there and was not before, or the other way round."""
        for quantity, named in labels.items():
            has = named is not None
            if self._labelled.setdefault(quantity, has) != has:
                raise UnreadableData(
                    f"{self._source}: {where} has {'' if has else 'no '}{quantity}, unlike those before it: label all "
                    f"or none, or leave the {quantity} unread with {self._options.spelled(quantity, NONE)}"
                )

    def _refuse_sign(self, quantity: str, declared: str) -> None:
        spelled = self._options.spelled
        key = _unsigned(declared)
        if key != declared and quantity != "forces":
            raise BadParams(f"{spelled(quantity, declared)}: only the key of the forces takes a sign")
        if key == declared and quantity == "forces" and is_gradient(key):
            raise BadParams(
                f"{self._source}: {key!r} is a gradient by its name, and forces are its negative: "
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
        # Where those before have it, refuse_mixture says more.
        if quantity not in _LOOKS_LIKE or self._labelled.get(quantity):
            return
        # Most frames have the keys of the one before.
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
                f"{missing}, but {other!r}{shape}, a gradient by its name, whose negative the forces are: "
                f"{spelled(quantity, f'-{other}')} changes the sign ({spelled(quantity, NONE)} leaves it unread)"
            )
        raise BadParams(
            f"{missing}, but {other!r}{shape}: did you mean {spelled(quantity, other)}? "
            f"({spelled(quantity, NONE)} leaves it unread)"
        )

    def refuse_unseen(self, found: Mapping[str, Any]) -> None:
        """Raise BadParams where a declared key was nowhere in the data; ``found`` is what one structure has."""
        for quantity, key in self._options.keys.items():
            if key != NONE and quantity not in self._seen:
                raise BadParams(
                    f"{self._source}: no structure has {_unsigned(key)!r}, declared by {self._options.keyword('keys')} "
                    f"as the {quantity}"
                    f"{did_you_mean(_unsigned(key), found)}"
                )
