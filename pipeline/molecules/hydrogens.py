"""Placement of implicit hydrogens in the geometry of a file, and the force fields for it (MMFF, UFF)."""

from typing import TYPE_CHECKING

import numpy as np
from ase import units
from numpy.typing import NDArray

from hydrogate.pipeline.molecules.sdf import rdkit_log

if TYPE_CHECKING:
    from rdkit import Chem
    from rdkit.ForceField.rdForceField import ForceField

MILLIDYNE = 6.241509  # eV/Å


def force_field(mol: "Chem.Mol") -> "ForceField":
    """Return the MMFF force field of a molecule with explicit hydrogens, or UFF without MMFF parameters (kcal/mol, Å).

    Raises
    ------
    ValueError
        Neither force field has parameters for the molecule.
    """
    from rdkit.Chem import rdForceFieldHelpers

    field: ForceField
    with rdkit_log():
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
            field = rdForceFieldHelpers.MMFFGetMoleculeForceField(
                mol, rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
            )
        elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
            field = rdForceFieldHelpers.UFFGetMoleculeForceField(mol)
        else:
            raise ValueError("neither MMFF nor UFF has parameters for this molecule")
    field.Initialize()
    return field


def springs(mol: "Chem.Mol") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return stiffness (eV/Å²) and rest length (Å) of each bond from MMFF, else from UFF; 0 if neither knows it."""
    from rdkit.Chem import rdForceFieldHelpers

    springs = np.zeros((2, mol.GetNumBonds()))
    with rdkit_log():
        mmff = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
        for bond in mol.GetBonds():
            ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            if mmff and (found := mmff.GetMMFFBondStretchParams(mol, *ends)):
                springs[:, bond.GetIdx()] = found[1] * MILLIDYNE, found[2]
            elif found := rdForceFieldHelpers.GetUFFBondStretchParams(mol, *ends):
                springs[:, bond.GetIdx()] = found[0] * units.kcal / units.mol, found[1]
    return springs[0], springs[1]


def add_hydrogens(mol: "Chem.Mol", *, reembed: bool = False, seed: int = 0) -> "Chem.Mol":
    """Place the implicit hydrogens of ``mol`` in its own geometry; existing atoms do not move.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        With a conformer, in Å. It is not modified.
    reembed : bool
        Discard the geometry and embed a new one with ETKDG, relaxed with the force field.
    seed : int
        Random seed for ``reembed``.

    Raises
    ------
    ValueError
        No force field has parameters for the molecule, or it cannot be embedded.
    """
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom

    given = mol.GetNumAtoms()
    full = Chem.AddHs(mol, addCoords=True)
    if reembed:
        parameters = rdDistGeom.ETKDGv3()
        parameters.randomSeed = seed  # type: ignore[assignment]
        if rdDistGeom.EmbedMolecule(full, parameters) != 0:
            raise ValueError("ETKDG cannot embed this molecule")
    elif full.GetNumAtoms() == given:
        return full
    field = force_field(full)
    if not reembed:
        for atom in range(given):
            field.AddFixedPoint(atom)
    # No convergence is no error: the hydrogens are placed, and the contracts check their positions.
    field.Minimize(maxIts=500)
    return full
