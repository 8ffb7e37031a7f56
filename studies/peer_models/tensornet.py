# /// script
# dependencies = ["torch==2.13.0", "torchmd-net==3.1.0"]
# [tool.hydrogate]
# contestants = ["torchmd-net TensorNet64"]
# ///
"""TensorNet of torchmd-net with 64 channels; energies in eV, lengths in Å.

Source of the training settings: examples/TensorNet-rMD17.yaml of torchmd-net, the example with a training set of about
this size and the smallest batch (those for millions of structures have warm-ups of 500 to 1,000 steps with batches of
16 to 64). Energies are standardized after subtraction of per-element references, as with ``remove_ref_energy`` in
TensorNet-ANI2X.yaml.
"""

import numpy as np
import torch
from torchmdnet.models.model import create_model

BATCH_SIZE = 8
LEARNING_RATE = 1e-3
CLIP_NORM = 40.0
WARMUP_STEPS = 500
EMA_DECAY = None
CONSTANT_EPOCHS = 25  # lr_patience
ENERGY_WEIGHT, FORCE_WEIGHT = 0.5, 0.5  # y_weight, neg_dy_weight
ENERGY_SHARE = 0.01  # ema_alpha_y: weight of the current batch in the smoothed energy loss
# Sizes from that file, except half the channels and a cutoff of 5 Å, as for all contestants but Orb.
SIZES = {
    "model": "tensornet",
    "embedding_dimension": 64,
    "num_layers": 2,
    "num_rbf": 32,
    "rbf_type": "expnorm",
    "trainable_rbf": False,
    "activation": "silu",
    "cutoff_lower": 0.0,
    "cutoff_upper": 5.0,
    "max_z": 100,
    "max_num_neighbors": 64,
    "equivariance_invariance_group": "O(3)",
    "output_model": "Scalar",
    "reduce_op": "add",
    "prior_model": None,
    "atom_filter": -1,
    "derivative": True,
    "precision": 32,
}


class Standardized(torch.nn.Module):
    """TensorNet with energies relative to element references, in units of their standard deviation."""

    def __init__(self, structures):
        super().__init__()
        counts = np.stack([np.bincount(one.numbers, minlength=100) for one in structures]).astype(float)
        energy = np.array([one.energy for one in structures])
        references = np.linalg.lstsq(counts, energy, rcond=None)[0]
        rest = torch.as_tensor(energy - counts @ references)
        std = rest.std() if len(rest) > 2 else torch.ones(())
        self.register_buffer("references", torch.as_tensor(references))
        self.model = create_model(dict(SIZES), mean=rest.mean().float(), std=std.float())

    def forward(self, numbers, positions, owner, count):
        energy, forces = self.model(numbers, positions, owner)
        reference = torch.zeros(count, dtype=torch.float64).index_add(0, owner, self.references[numbers])
        return energy.squeeze(-1).double() + reference, forces


def make(contestant, structures):
    return Standardized(structures)


def graph(model, structure):
    return torch.as_tensor(structure.numbers).long(), torch.as_tensor(structure.positions).float()


def join(graphs):
    sizes = torch.tensor([len(numbers) for numbers, _ in graphs])
    owner = torch.repeat_interleave(torch.arange(len(graphs)), sizes)
    return torch.cat([numbers for numbers, _ in graphs]), torch.cat([pos for _, pos in graphs]), owner, len(graphs)


def energy_and_forces(model, batch, training):
    numbers, positions, owner, count = batch
    return model(numbers, positions.clone(), owner, count)


def optimizer(model):
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)


def loss(energy, forces, true_energy, true_forces, sizes):
    energy_loss = torch.nn.functional.mse_loss(energy, true_energy)
    force_loss = torch.nn.functional.mse_loss(forces, true_forces)
    return ENERGY_WEIGHT * ENERGY_SHARE * energy_loss + FORCE_WEIGHT * force_loss
