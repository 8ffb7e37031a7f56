"""Registry of readers: a function identified by its name, its suffixes, and the units of its format's convention."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.data.label_keys import ReadOptions
from hydrogate.checks.errors import BadParams

Reader: TypeAlias = Callable[[Path, ReadOptions], Dataset]


@dataclass(frozen=True)
class Format:
    """File format: its reader, suffixes, units, and the convention that defines these units.

    ``says_itself`` is true if files of the format define their own units and keys.
    """

    read: Reader
    suffixes: tuple[str, ...]
    units: str
    convention: str
    says_itself: bool


class Declared(NamedTuple):
    """Read options declared for a data set, in the order of :func:`hydrogate.pipeline.formats.read`."""

    input_format: str | None = None
    units: str | None = None
    keys: Mapping[str, str] = MappingProxyType({})


FORMATS: dict[str, Format] = {}


def reader(*suffixes: str, units: str, convention: str, says_itself: bool = False) -> Callable[[Reader], Reader]:
    """Register the decorated function ``read_<format>`` as the reader of that format.

    ``says_itself`` marks a format whose files define their own units and keys, so that none can be declared.
    """

    def declare(read: Reader) -> Reader:
        FORMATS[read.__name__.removeprefix("read_")] = Format(read, suffixes, units, convention, says_itself)
        return read

    return declare


def parse_keys(text: str | None) -> dict[str, str]:
    """Parse text such as ``energy=REF_energy,forces=-gradient`` into a mapping.

    Raises
    ------
    BadParams
        An item is not of the form QUANTITY=KEY, or a quantity is given twice.
    """
    keys: dict[str, str] = {}
    for part in text.split(",") if text else []:
        quantity, _, key = (piece.strip() for piece in part.partition("="))
        if not quantity or not key:
            raise BadParams(f"--keys: {part!r} is not QUANTITY=KEY, such as energy=REF_energy,forces=REF_forces")
        if quantity in keys:
            raise BadParams(f"--keys: {quantity} is given twice, as {keys[quantity]!r} and {key!r}")
        keys[quantity] = key
    return keys
