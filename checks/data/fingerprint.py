"""Stored form of a data set: text columns, positions where it may be split into parts, and SHA-256 fingerprints."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

# Fields added later enter the fingerprint only if set, so data sets without them keep their old fingerprint.
_LATER = ("cell", "pbc", "isolated_atom_energies", "heavy_atoms_moved", "dipole", "charges", "partner")
_HASHED_AT_ONCE = 4 * 2**20  # bytes; must not change, because the fingerprint depends on it


class Text(NamedTuple):
    """Text column of M strings in stored form.

    Parameters
    ----------
    utf8 : (B,) uint8
        Concatenated UTF-8 bytes of the strings.
    ends : (M,) int64
        End offset of each string.
    """

    utf8: NDArray[np.uint8]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Encode ``texts``; invalid Unicode, which may occur in file names, is preserved."""
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        return cls(np.frombuffer(b"".join(parts), dtype=np.uint8), ends)

    def decoded(self) -> NDArray[np.object_]:
        """Decode to an (M,) object array of str."""
        whole, ends = self.utf8.tobytes(), self.ends.tolist()
        texts = np.empty(len(ends), dtype=object)
        bounds = zip([0, *ends], ends, strict=False)
        if whole.isascii():
            text = whole.decode("ascii")
            texts[:] = [text[start:end] for start, end in bounds]
        else:
            texts[:] = [whole[start:end].decode("utf-8", "surrogatepass") for start, end in bounds]
        texts.flags.writeable = False
        return texts

    def part(self, first: int, last: int) -> Self:
        """Return the texts ``first`` to ``last``."""
        start = int(self.ends[first - 1]) if first else 0
        ends = self.ends[first:last]
        return type(self)(self.utf8[start : int(ends[-1]) if len(ends) else start], ends - start)


def cuts(offset: NDArray[np.int64], parent: NDArray[np.int64], atoms: int) -> NDArray[np.int64]:
    """Return the structures at which a new part begins: about every ``atoms`` atoms, without splitting a family."""
    here = np.arange(1, len(parent))
    whole = (np.maximum.accumulate(parent)[:-1] < here) & (np.minimum.accumulate(parent[::-1])[::-1][1:] >= here)
    allowed: NDArray[np.int64] = here[whole]
    return allowed[np.diff(offset[allowed] // atoms, prepend=0) > 0]


def fingerprint_of(content: Iterable[tuple[str, Any]]) -> str:
    """Compute the SHA-256 of the fields of a data set, by name: arrays (any sliceable type), Text and plain values.

    For an array, the digests of its blocks are hashed, so that blocks can be processed in parallel.
    """
    digest = hashlib.sha256()
    with ThreadPoolExecutor() as pool:
        for name, value in content:
            if value is None and name in _LATER:
                continue
            digest.update(name.encode())
            if value is None or isinstance(value, (int, str, Mapping)) or name == "quarantine":
                plain = dict(value) if isinstance(value, Mapping) else value
                digest.update(json.dumps(plain, sort_keys=True).encode())
                continue
            for array in value if isinstance(value, Text) else (value,):
                digest.update(f"{array.dtype} {array.shape}".encode())
                rows = max(1, _HASHED_AT_ONCE // (array.dtype.itemsize * int(np.prod(array.shape[1:]))))
                for block in pool.map(partial(_hashed, array, rows), range(0, len(array), rows)):
                    digest.update(block)
    return digest.hexdigest()


def _hashed(array: NDArray[Any], rows: int, start: int) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(array[start : start + rows]).data).digest()


def fingerprint_of_schema_1(content: Iterable[tuple[str, Any]]) -> str:
    """Compute the fingerprint as defined in version 1 of the project's file format."""
    digest = hashlib.sha256()
    for name, value in content:
        if value is None and name in _LATER:
            continue
        digest.update(name.encode())
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
        else:
            texts = isinstance(value, Text)
            plain = value.decoded().tolist() if texts else dict(value) if isinstance(value, Mapping) else value
            digest.update(json.dumps(plain, sort_keys=not texts).encode())
    return digest.hexdigest()
