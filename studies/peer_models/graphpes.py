# /// script
# dependencies = ["torch==2.13.0", "graph-pes==1.0.2"]
# [tool.hydrogate]
# contestants = ["graph-pes PaiNN"]
# ///
"""PaiNN of graph-pes at the size of PaiNN's paper; energies in eV, lengths in Å.

Source of the training settings: graph-pes's own defaults (graph_pes/config/training-defaults.yaml, and
``FittingConfig.get_optimizer``: Adam, 1e-3, no schedule), the energy offset of configs/realistic.yaml and the loss of
its quickstart (docs/source/quickstart/quickstart-cgap17.yaml).
"""

import ase
from graph_pes.atomic_graph import AtomicGraph, to_batch
from graph_pes.models import AdditionModel, LearnableOffset, PaiNN
from graph_pes.training.opt import Optimizer

BATCH_SIZE = 4
LEARNING_RATE = 1e-3
CLIP_NORM = None
WARMUP_STEPS = 0
EMA_DECAY = None
CONSTANT_EPOCHS = 100  # max_epochs; there is no schedule
# Source: PaiNN's paper (arXiv 2102.03150): 128 features, 3 blocks, 20 radial functions, 5 Å.
CHANNELS, LAYERS, RADIAL, CUTOFF = 128, 3, 20, 5.0


def make(contestant, structures):
    many_body = PaiNN(channels=CHANNELS, layers=LAYERS, radial_features=RADIAL, cutoff=CUTOFF)
    model = AdditionModel(offset=LearnableOffset(), many_body=many_body)
    model.pre_fit_all_components([graph(model, one) for one in structures])
    return model


def graph(model, structure):
    atoms = ase.Atoms(structure.numbers, structure.positions)
    atoms.info["energy"], atoms.arrays["forces"] = structure.energy, structure.forces
    return AtomicGraph.from_ase(atoms, CUTOFF)


def join(graphs):
    return to_batch(graphs)


def energy_and_forces(model, batch, training):
    found = model.predict(batch, ["energy", "forces"])
    return found["energy"], found["forces"]


def optimizer(model):
    return Optimizer("Adam", lr=LEARNING_RATE)(model)


def loss(energy, forces, true_energy, true_forces, sizes):
    per_atom = ((energy - true_energy) / sizes).float()
    return per_atom.square().mean().sqrt() + (forces - true_forces).square().mean().sqrt()
