# /// script
# dependencies = ["torch==2.13.0", "orb-models==0.5.5"]
# [tool.hydrogate]
# contestants = ["Orb-v3 conservative", "Orb-v3 direct"]
# not_trained = "its authors provide pretraining on millions of structures and fine-tuning, no training on thousands"
# ///
"""Orb-v3 for molecules (omol), conservative and direct, with random weights, which do not affect the speed."""

import ase
from orb_models.forcefield import atomic_system, base, pretrained

ARCHITECTURES = {
    "Orb-v3 conservative": pretrained.orb_v3_conservative_architecture,
    "Orb-v3 direct": pretrained.orb_v3_direct_architecture,
}
# Source: orb_models.forcefield.pretrained.orb_v3_conservative_omol; the direct model has the same values.
SYSTEM = atomic_system.SystemConfig(radius=6.0, max_num_neighbors=120)


def make(contestant, structures):
    model = ARCHITECTURES[contestant](device="cpu", system_config=SYSTEM, has_charge_spin_cond=True, has_stress=False)
    # Same state as after its loader, for inference.
    return model.eval().requires_grad_(False)


def graph(model, structure):
    atoms = ase.Atoms(structure.numbers, structure.positions)
    atoms.info.update(charge=0, spin=1)
    return atomic_system.ase_atoms_to_atom_graphs(atoms, SYSTEM, device="cpu")


def join(graphs):
    return base.batch_graphs(graphs)


def energy_and_forces(model, batch, training):
    found = model.predict(batch)
    name = "grad_forces" if "grad_forces" in found else "forces"
    return found["energy"], found[name]
