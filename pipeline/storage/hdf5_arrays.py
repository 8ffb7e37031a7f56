"""Arrays of an HDF5 file: validation and memory-mapped access.

Memory-mapping avoids a copy, and avoids HDF5, which reads only one array at a time.
"""

from dataclasses import dataclass
from mmap import ACCESS_READ, ALLOCATIONGRANULARITY, mmap
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from hydrogate.checks.errors import UnreadableData

# Maximum ratio of decompressed size to file size. Gzip compresses SDF files 3- to 20-fold, HDF5 2-fold, constants
# 1000-fold.
LARGEST_EXPANSION = 200


class UnreadableFile(UnreadableData):
    """File that cannot be read in the expected format; the message names the file and the remedy."""


def refuse_foreign(path: Path, item: h5py.Dataset) -> None:
    """Reject an array that is stored in a file other than ``path``, or that claims to be far larger than the file.

    Raises
    ------
    UnreadableFile
    """
    if item.is_virtual or item.external or item.file.filename != str(path):
        raise UnreadableFile(f"{path}: {item.name} is stored in another file, which is not read; copy it in (h5repack)")
    if item.nbytes > (most := LARGEST_EXPANSION * path.stat().st_size):
        raise UnreadableFile(
            f"{path}: {item.name} claims {item.nbytes} bytes, but at most {most} ({LARGEST_EXPANSION} times the file "
            "size) are allowed; create the file again"
        )


def refuse_unusable(path: Path, item: h5py.Dataset, kind: Any) -> None:
    """Reject an array that cannot be converted to ``kind`` or that :func:`refuse_foreign` rejects.

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
    """Memory-mapped array in a file; slicing returns NumPy arrays.

    Each slice is mapped only while it is in use, so that memory does not grow with the number of slices read.

    Parameters
    ----------
    path : Path
    dtype : numpy.dtype
    shape : tuple of int
    start : int
        Offset of its first byte in the file.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    @classmethod
    def of(cls, item: h5py.Dataset, path: Path) -> Self | None:
        """Return ``item`` of the file ``path`` as a column, or None if it is compressed or cannot be memory-mapped."""
        # An empty array has no offset in the file.
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
