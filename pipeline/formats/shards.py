"""Data sets in files, checked part by part: memory holds one part or file at a time, whatever their number.

The project's HDF5 is read in parts, each on first access. A file of another format is read completely; because each
file is accessed several times, the last files read stay in memory as long as their total size is small.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from hydrogate.checks.data.dataset import Dataset
from hydrogate.checks.engine.partition import (
    ATOMS_A_PART,
    Gather,
    Parts,
    Place,
    Whole,
    numbered,
    over_threads,
    places_of,
)
from hydrogate.pipeline.formats import called, files_of, format_of, join, read
from hydrogate.pipeline.molecules.records import source_names
from hydrogate.pipeline.storage import hdf5

# Limit on the number of atoms kept in memory from files of other formats (the last file is always kept): 100 MB of
# labelled structures.
ATOMS_KEPT = 4_000_000


@dataclass(frozen=True)
class Shard:
    """One file and its read options.

    Parameters
    ----------
    path : Path
    name : str
        Name of the file in the data set.
    input_format, unit_system, keys
        As for :func:`hydrogate.pipeline.formats.read`.
    """

    path: Path
    name: str
    input_format: str | None = None
    unit_system: str | None = None
    keys: tuple[tuple[str, str], ...] = ()

    def read(self) -> Dataset:
        """Read the complete file."""
        return called(read(self.path, self.input_format, self.unit_system, dict(self.keys)), self.path.name, self.name)

    def read_part(self, part: hdf5.Part) -> Dataset:
        """Read a part of a file in the project's own format."""
        data = part.read()
        lengths = np.diff(data.text("source").ends, prepend=0)
        if self.name == self.path.name and lengths.all():
            return data
        source = np.where(data.source == "", self.path.name, data.source).astype(object)
        return called(replace(data, source=source), self.path.name, self.name)


class Described(NamedTuple):
    """Properties of a shard that are known before it is checked.

    ``head`` is the first structure with all file-level data; ``places`` are the parts of the shard.
    """

    head: Dataset
    places: list[Place]
    fingerprint: str


def parts_of(
    paths: Sequence[Path],
    input_format: str | None = None,
    unit_system: str | None = None,
    keys: Mapping[str, str] | None = None,
    *,
    gather: Gather = over_threads,
) -> Parts:
    """Return the files given by ``paths`` (files, folders, patterns) as the parts of one data set.

    The fingerprint of the data set is that of the file, or a hash of the files' fingerprints in their order.

    Parameters
    ----------
    input_format, unit_system, keys
        As for :func:`hydrogate.pipeline.formats.read`.
    gather : Gather
        Reads the parts and applies a question to each: threads of this process by default, or
        :func:`hydrogate.pipeline.workers.dask_parts.cluster`.

    Raises
    ------
    BadParams, FileNotFoundError, UnreadableData
        As :func:`hydrogate.pipeline.formats.read_all`.
    """
    files = files_of(paths, input_format)
    declared = (input_format, unit_system, tuple((keys or {}).items()))
    names = source_names(files)
    if gather is not over_threads:  # workers have another working directory
        files = [path.absolute() for path in files]
    shards = [Shard(path, name, *declared) for path, name in zip(files, names, strict=True)]
    described = gather(_described, shards)
    places = numbered([place for one in described for place in one.places])
    whole = replace(
        Whole.of(join([one.head for one in described])),
        structures=sum(place.structures for place in places),
        atoms=sum(place.atoms for place in places),
    )
    fingerprints = [one.fingerprint for one in described]
    return Parts(places, whole, partial(_fingerprint, fingerprints), gather)


def _fingerprint(fingerprints: Sequence[str]) -> str:
    return fingerprints[0] if len(fingerprints) == 1 else hashlib.sha256(" ".join(fingerprints).encode()).hexdigest()


def _described(shard: Shard) -> list[Described]:
    if format_of(shard.path, shard.input_format) == "hdf5" and not (shard.keys or shard.unit_system):
        parts = hdf5.parts(shard.path, ATOMS_A_PART)
        head = shard.read_part(parts[0]._replace(last=min(1, parts[0].last)))
        places = [Place(partial(shard.read_part, part), part.last - part.first, part.atoms) for part in parts]
        return [Described(head, places, hdf5.verify(shard.path))]
    data = _FILES.read(shard)
    bounds = np.cumsum([0, *(place.structures for place in places_of(data, ATOMS_A_PART))]).tolist()
    places = [
        Place(partial(_section, shard, start, stop), stop - start, int(data.offset[stop] - data.offset[start]))
        for start, stop in pairwise(bounds)
    ]
    return [Described(data.part(0, min(1, len(data))), places, data.fingerprint())]


def _section(shard: Shard, start: int, stop: int) -> Dataset:
    return _FILES.read(shard).part(start, stop)


class _Files:
    """Cache of the files read last, limited to ``ATOMS_KEPT`` atoms in total but never empty."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Shard, Dataset] = OrderedDict()
        self._lock = Lock()

    def read(self, shard: Shard) -> Dataset:
        with self._lock:
            if shard not in self._kept:
                self._kept[shard] = shard.read()
            self._kept.move_to_end(shard)
            while len(self._kept) > 1 and sum(len(data.numbers) for data in self._kept.values()) > ATOMS_KEPT:
                self._kept.popitem(last=False)
            return self._kept[shard]


_FILES = _Files()
