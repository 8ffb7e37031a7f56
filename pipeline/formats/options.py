"""What a reader is: a function found by its name, its suffixes, and the units that its format's convention means."""

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
    """A format: its reader, the suffixes that tell it, its units, whose convention they are, whether files say them."""

    read: Reader
    suffixes: tuple[str, ...]
    units: str
    convention: str
    says_itself: bool


class Declared(NamedTuple):
    """What a call says of a data set, in the order of :func:`hydrogate.pipeline.formats.read`."""

    input_format: str | None = None
    units: str | None = None
    keys: Mapping[str, str] = MappingProxyType({})


FORMATS: dict[str, Format] = {}


def reader(*suffixes: str, units: str, convention: str, says_itself: bool = False) -> Callable[[Reader], Reader]:
    """Declare the decorated function ``read_<format>`` as the reader of that format.

    ``says_itself`` of a format whose files have units and keys of their own, so that none can be declared.
    """

    def declare(read: Reader) -> Reader:
        FORMATS[read.__name__.removeprefix("read_")] = Format(read, suffixes, units, convention, says_itself)
        return read

    return declare


def parse_keys(text: str | None) -> dict[str, str]:
    """``energy=REF_energy,forces=-gradient`` as a mapping.

    Raises
    ------
    BadParams
        A part is no QUANTITY=KEY, or a quantity is named twice.
    """
    keys: dict[str, str] = {}
    for part in text.split(",") if text else []:
        quantity, _, key = (piece.strip() for piece in part.partition("="))
        if not quantity or not key:
            raise BadParams(f"--keys {part!r} is no QUANTITY=KEY, such as energy=REF_energy,forces=REF_forces")
        if quantity in keys:
            raise BadParams(f"--keys names {quantity} twice: {keys[quantity]!r} and {key!r}")
        keys[quantity] = key
    return keys
