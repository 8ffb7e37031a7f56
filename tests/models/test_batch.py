"""Tests of batches and neighbours against plain distances."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from hydrogate.models.batch import collate, join
from hydrogate.models.neighbours import neighbour_pairs


@pytest.mark.parametrize("count", [1, 2, 24, 25, 26, 200])
def test_neighbours_are_the_pairs_within_the_cutoff(count: int) -> None:
    positions = np.random.default_rng(count).uniform(0, 8, (count, 3)).astype(np.float32)
    apart = np.linalg.norm(positions[:, None].astype(float) - positions[None].astype(float), axis=-1)
    expected = {(i, j) for i, j in zip(*np.nonzero(apart <= 3.0), strict=True) if i != j}
    pairs = neighbour_pairs(positions, 3.0)
    assert pairs.shape == (2, len(expected))
    assert set(zip(*pairs.tolist(), strict=True)) == expected
    assert (np.diff(pairs[0]) >= 0).all()


def test_a_position_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="atom 1 has a position that is not finite"):
        neighbour_pairs(np.array([[0, 0, 0], [np.nan, 0, 0]]), 3.0)


def test_collate_says_what_is_in_it() -> None:
    ion = Atoms("OH", [[0, 0, 0], [0, 0, 1]])
    ion.info.update(charge=np.int16(-1), spin=np.int16(1))
    batch = collate([molecule("CH3"), ion], 5.0, torch.float64)
    assert batch.n_structures == 2
    assert batch.numbers.tolist() == [6, 1, 1, 1, 8, 1]
    assert batch.structure.tolist() == [0, 0, 0, 0, 1, 1]
    assert batch.charge.tolist() == [0, -1]
    assert batch.spin_multiplicity.tolist() == [1, 1]
    assert batch.positions.dtype == torch.float64
    assert batch.edge_index.shape == (2, 12 + 2)
    assert batch.edge_index.dtype == torch.int64
    receiver, sender = batch.edge_index
    assert (batch.structure[receiver] == batch.structure[sender]).all()
    assert torch.equal(batch.edge_vectors()[0], batch.positions[sender[0]] - batch.positions[receiver[0]])


def test_joined_batches_are_the_batch_of_all() -> None:
    some = [molecule(name) for name in ("H2O", "H", "CH3CH2OH")]
    whole, parts = collate(some, 3.0), join([collate([atoms], 3.0) for atoms in some])
    for name in ("numbers", "positions", "structure", "charge", "spin_multiplicity", "edge_index"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))


def test_all_pairs_are_there_where_they_are_asked_for() -> None:
    some = [molecule(name) for name in ("H2O", "H", "CH4")]
    whole, parts = collate(some, 0.5, pairs=True), [collate([atoms], 0.5, pairs=True) for atoms in some]
    apart = [(0, 1), (0, 2), (1, 2), *((4 + i, 4 + j) for i in range(5) for j in range(i + 1, 5))]
    assert list(zip(*whole.pairs.tolist(), strict=True)) == apart
    assert torch.equal(join(parts).pairs, whole.pairs)
    for copied in (whole.to("cpu", torch.float64), whole.at(whole.positions + 1.0)):
        assert torch.equal(copied.all_pairs, whole.pairs)
    with pytest.raises(ValueError, match="1 of 2 batches hold all pairs"):
        join([parts[0], collate(some, 0.5)])
    with pytest.raises(ValueError, match="reads all pairs"):
        _ = collate(some, 0.5).all_pairs


def test_what_cannot_be_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one structure"):
        collate([], 5.0)
    with pytest.raises(ValueError, match="structure 1 has no atoms"):
        collate([molecule("H2O"), Atoms()], 5.0)
    broken = molecule("H2O")
    broken.positions[2] = np.inf
    with pytest.raises(ValueError, match=r"structure 0 \(H2O\): atom 2"):
        collate([broken], 5.0)
