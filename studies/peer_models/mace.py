# /// script
# dependencies = ["torch==2.13.0", "mace-torch==0.3.16"]
# [tool.hydrogate]
# contestants = ["mace-torch 64x0e"]
# ///
"""MACE with 64 invariant channels; energies in eV, lengths in Å.

Source of sizes and training settings: the example of mace-torch's README (batch of 10, averaged weights, amsgrad, 5 Å,
reference energies ``average``), and the defaults of ``mace_run_train`` for all other settings.
"""

import numpy as np
import torch

# The constants of its e3nn contain slices, which torch does not load by default.
torch.serialization.add_safe_globals([slice])

from e3nn import o3  # noqa: E402
from mace import data, modules, tools  # noqa: E402
from mace.tools.scripts_utils import get_optimizer, get_params_options  # noqa: E402
from mace.tools.torch_geometric.batch import Batch  # noqa: E402

BATCH_SIZE = 10
CLIP_NORM = 10.0
WARMUP_STEPS = 0
EMA_DECAY = 0.99
CONSTANT_EPOCHS = 50  # scheduler_patience
ENERGY_WEIGHT, FORCE_WEIGHT = 1.0, 100.0
CHANNELS = 64
DEFAULTS = tools.build_default_arg_parser().parse_args(["--name=peer", "--train_file=none", "--amsgrad"])


def make(contestant, structures):
    table = tools.get_atomic_number_table_from_zs(z for one in structures for z in one.numbers.tolist())
    counts = np.stack([[(one.numbers == z).sum() for z in table.zs] for one in structures]).astype(float)
    references = np.linalg.lstsq(counts, np.array([one.energy for one in structures]), rcond=None)[0]
    forces = np.concatenate([one.forces for one in structures])
    neighbours = [data.get_neighborhood(one.positions, DEFAULTS.r_max)[0].shape[1] for one in structures]
    model = modules.ScaleShiftMACE(
        r_max=DEFAULTS.r_max,
        num_bessel=DEFAULTS.num_radial_basis,
        num_polynomial_cutoff=DEFAULTS.num_cutoff_basis,
        max_ell=DEFAULTS.max_ell,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
        num_interactions=DEFAULTS.num_interactions,
        num_elements=len(table),
        hidden_irreps=o3.Irreps(f"{CHANNELS}x0e"),
        MLP_irreps=o3.Irreps(DEFAULTS.MLP_irreps),
        gate=modules.gate_dict[DEFAULTS.gate],
        atomic_energies=references,
        avg_num_neighbors=sum(neighbours) / counts.sum(),
        atomic_numbers=table.zs,
        correlation=DEFAULTS.correlation,
        radial_type=DEFAULTS.radial_type,
        atomic_inter_scale=float(np.sqrt((forces**2).mean())),
        atomic_inter_shift=0.0,
    )
    model.table = table
    return model


def graph(model, structure):
    configuration = data.Configuration(structure.numbers, structure.positions, properties={}, property_weights={})
    return data.AtomicData.from_config(configuration, z_table=model.table, cutoff=DEFAULTS.r_max)


def join(graphs):
    return Batch.from_data_list(graphs).to_dict()


def energy_and_forces(model, batch, training):
    found = model(batch, training=training, compute_force=True)
    return found["energy"], found["forces"]


def optimizer(model):
    return get_optimizer(DEFAULTS, get_params_options(DEFAULTS, model))


def loss(energy, forces, true_energy, true_forces, sizes):
    per_atom = ((energy - true_energy) / sizes).float()
    return ENERGY_WEIGHT * per_atom.square().mean() + FORCE_WEIGHT * (forces - true_forces).square().mean()
