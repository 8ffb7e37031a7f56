"""Waiver: what it covers, who signed it, when it expires.

A waiver identifies structures by their file (``pattern: "old*.sdf"``) or by file and record as printed in findings
(``structures: ["old.sdf record 12"]``). A finding for the complete data set is waived by the data's fingerprint.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from fnmatch import fnmatchcase
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.declarations import Section, explain
from hydrogate.checks.engine.bounds import CONTRACTS, Override, resolve_bounds
from hydrogate.checks.errors import BadParams, did_you_mean

Words = Annotated[str, Field(min_length=1, pattern=r"\S")]


class Waiver(Section):
    """Waiver: what it covers, who signed it, when it expires.

    Parameters
    ----------
    structures : tuple of str
        Structures as "FILE record N".
    pattern : str, optional
        Pattern for the file name, with ``*`` and ``?``.
    fingerprint : str, optional
        SHA-256 of the data set (``hydrogate check --format json`` prints it). Alone it waives the finding for the
        complete data set; together with structures or a pattern it restricts the waiver to this data set.
    expires : date
        Last day on which the waiver is valid. Quote it in ``params.yaml``, because DVC does not support dates.
    """

    contract: Words
    check: Words
    structures: tuple[Words, ...] = ()
    pattern: Words | None = None
    fingerprint: Words | None = None
    reason: Words
    author: Words
    expires: date

    @property
    def names_structures(self) -> bool:
        """True if single structures are waived, not the complete data set."""
        return bool(self.structures) or self.pattern is not None

    def __str__(self) -> str:
        return f"{self.author} until {self.expires}: {self.reason}"

    def whose(self) -> str:
        """Return the check, what is waived and who signed the waiver, as text."""
        named = [*self.structures, *([self.pattern] if self.pattern else [])]
        what = ", ".join(named) or f"the data set {str(self.fingerprint)[:12]}"
        return f"the waiver of {self.check} for {what} ({self})"

    def covers(self, data: Dataset, structures: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return a mask (K,) of those of ``structures`` (K,) that the waiver covers."""
        named = set(self.structures)

        def covered(row: int) -> bool:
            source = str(data.source[row])
            by_pattern = bool(source) and self.pattern is not None and fnmatchcase(source, self.pattern)
            return by_pattern or f"{source} record {data.source_index[row]}" in named

        rows, place = np.unique(structures, return_inverse=True)
        return np.array([row < len(data) and covered(row) for row in rows.tolist()], dtype=bool)[place]


def read_waivers(overrides: Sequence[Override]) -> tuple[Waiver, ...]:
    """Return all ``waivers`` in the overrides.

    Raises
    ------
    BadParams
        A waiver has no reason, author or expiry date, an unknown contract or check, or does not name what it waives.
    """
    return tuple(
        _read(item, f"{source}: contracts.waivers[{index}]")
        for source, override in overrides
        for index, item in enumerate(_listed(override.get("waivers"), source))
    )


def _listed(section: object, source: str) -> list[object]:
    if section is None:
        return []
    if not isinstance(section, list):
        raise BadParams(f"{source}: contracts.waivers: expected a list, got {section!r}")
    return section


def _read(item: object, where: str) -> Waiver:
    if not isinstance(item, Mapping):
        raise BadParams(f"{where}: expected a mapping, got {item!r}")
    try:
        waiver = Waiver.model_validate(item)
    except ValidationError as error:
        raise BadParams(f"{where}: {explain(error, Waiver)}") from error
    if waiver.contract not in CONTRACTS:
        raise BadParams(f"{where}: contract {waiver.contract!r} is unknown{did_you_mean(waiver.contract, CONTRACTS)}")
    if waiver.contract == "input":
        raise BadParams(f"{where}: contract input cannot be waived: its records are quarantined, each with its reason")
    _, known = resolve_bounds(waiver.contract)
    if waiver.check not in known:
        raise BadParams(f"{where}: check {waiver.check!r} is unknown{did_you_mean(waiver.check, known)}")
    if not (waiver.names_structures or waiver.fingerprint):
        raise BadParams(f"{where}: a waiver must name structures, a pattern of files, or the data set's fingerprint")
    return waiver
