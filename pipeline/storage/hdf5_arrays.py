"""Arrays of an HDF5 file: which are refused, and how one is used where it lies in the file.

So it is looked at without a copy, and without HDF5, which reads one array at a time.
"""

from dataclasses import dataclass
from mmap import ACCESS_READ, ALLOCATIONGRANULARITY, mmap
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.errors import UnreadableData

# What a file may hold over its size. Gzip makes SDF files 3 to 20 times as small, HDF5 twice; a constant, a thousand.
LARGEST_EXPANSION = 200


class UnreadableFile(UnreadableData):
    """A file that cannot be used as what it was taken for; the message names the file and the remedy."""


def refuse_foreign(path: Path, item: h5py.Dataset) -> None:
    """Refuse an array that lies in another file than ``path``, or says that it is far larger than the file.

    Raises
    ------
    UnreadableFile
    """
    if item.is_virtual or item.external or item.file.filename != str(path):
        raise UnreadableFile(f"{path}: {item.name} lies in another file, which is not followed; copy it in (h5repack)")
    if item.nbytes > (most := LARGEST_EXPANSION * path.stat().st_size):
        raise UnreadableFile(
            f"{path}: {item.name} says that it is {item.nbytes} bytes, allowed at most {most}, {LARGEST_EXPANSION} "
            "times the file; make the file again"
        )


def refuse_unusable(path: Path, item: h5py.Dataset, kind: Any) -> None:
    """Refuse an array that cannot be used as ``kind`` or that :func:`refuse_foreign` refuses.

    Raises
    ------
    UnreadableFile
    """
    refuse_foreign(path, item)
    if not item.ndim or not np.can_cast(item.dtype, kind, "same_kind"):
        raise UnreadableFile(
            f"{path}: {item.name} is {item.dtype} of shape {item.shape}, expected an array of {kind.__name__}"
        )


@dataclass(frozen=True)
class Column:
    """An array that lies in a file as it is used, sliced as any array is.

    A slice is mapped into memory for as long as it is used, so that what was looked at does not pile up.

    Parameters
    ----------
    path : Path
    dtype : numpy.dtype
    shape : tuple of int
    start : int
        Its first byte in the file.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    @classmethod
    def of(cls, item: h5py.Dataset, path: Path) -> Self | None:
        """``item`` of the file ``path``; None where it is compressed, or does not lie in the file as it is used."""
        # What holds nothing has no place.
        kind, start = item.dtype, item.id.get_offset() if item.size else 0
        return None if kind.hasobject or start is None or start % kind.alignment else cls(path, kind, item.shape, start)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        first, last, _ = rows.indices(len(self))
        shape = (max(last - first, 0), *self.shape[1:])
        row = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        if not shape[0]:
            return np.empty(shape, self.dtype)
        pages, before = divmod(self.start + first * row, ALLOCATIONGRANULARITY)
        with self.path.open("rb") as file:
            length, place = before + shape[0] * row, pages * ALLOCATIONGRANULARITY
            memory = mmap(file.fileno(), length, access=ACCESS_READ, offset=place)
        return np.ndarray(shape, self.dtype, memory, before)
