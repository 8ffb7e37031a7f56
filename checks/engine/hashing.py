"""Mergeable sets of hashed keys (see :mod:`hydrogate.checks.engine.mergeable`), independent of the partitioning."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Distinct:
    """The ``most`` smallest distinct keys (K,): enough to decide if there are at least ``most`` of them."""

    keys: Keys
    most: int

    @classmethod
    def of(cls, keys: Keys, most: int) -> Self:
        return cls(np.unique(keys)[:most], most)

    def merge(self, other: Self) -> Self:
        return type(self).of(np.concatenate([self.keys, other.keys]), self.most)


@dataclass(frozen=True, eq=False)
class Sample:
    """Random sample of at most ``size`` rows: those with the smallest hash of row and seed.

    The sample is therefore independent of the partitioning.
    """

    rows: NDArray[np.int64]
    size: int
    seed: int

    @classmethod
    def of(cls, rows: NDArray[np.int64], size: int, seed: int) -> Self:
        order = np.argsort(scattered(rows, seed), kind="stable")[:size]
        return cls(np.sort(rows[order]), size, seed)

    def merge(self, other: Self) -> Self:
        return type(self).of(np.concatenate([self.rows, other.rows]), self.size, self.seed)


@dataclass(frozen=True, eq=False)
class Sides:
    """Sides of a split on which each key (K,) occurs, one bit per side; keys are in ascending order."""

    keys: Keys
    bits: NDArray[np.uint8]

    @classmethod
    def of(cls, keys: Keys, bits: NDArray[np.uint8]) -> Self:
        distinct, place = np.unique(keys, return_inverse=True)
        united = np.zeros(len(distinct), dtype=np.uint8)
        np.bitwise_or.at(united, place, bits)
        return cls(distinct, united)

    def merge(self, other: Self) -> Self:
        return type(self).of(np.concatenate([self.keys, other.keys]), np.concatenate([self.bits, other.bits]))

    def crossing(self) -> "Sides":
        """Return the keys that occur on more than one side."""
        several = (self.bits & (self.bits - 1)) != 0
        return Sides(self.keys[several], self.bits[several])

    def of_keys(self, keys: Keys) -> NDArray[np.uint8]:
        """Return the bits (K,) of ``keys``; 0 for a key that is not in this set."""
        if not len(self.keys):
            return np.zeros(len(keys), dtype=np.uint8)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[place] == keys, self.bits[place], 0).astype(np.uint8)


def scattered(values: NDArray[Any], seed: int = 0) -> Keys:
    """Return a hash (K,) of integers or bit patterns (K,), equal on every machine and in every process.

    Source: Steele, Lea, Flood, Fast splittable pseudorandom number generators (2014), the finalizer of SplitMix64.
    """
    mixed = values.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def keys_of_text(texts: NDArray[np.object_]) -> Keys:
    """Return a hash (K,) of each text, equal in every process."""
    from hashlib import blake2b

    known = {text: int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) for text in set(texts.tolist())}
    return np.array([known[text] for text in texts.tolist()], dtype=np.uint64)
