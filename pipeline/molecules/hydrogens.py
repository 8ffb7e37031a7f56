"""Hydrogens that a file leaves implicit, placed in the geometry that it gives; the force fields that place them."""

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
    """MMFF, or UFF where MMFF has no parameters, of a molecule with explicit hydrogens (kcal/mol, Å).

    Raises
    ------
    ValueError
        Neither has parameters for it.
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
    """Of each bond, its stiffness in eV/Å² and its rest length in Å by MMFF, else by UFF; 0 where neither knows it."""
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
    """Place the implicit hydrogens of ``mol`` in its own geometry; every atom that was there stays where it is.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        With a conformer, in Å. It is left as it is.
    reembed : bool
        Throw the geometry away and embed anew with ETKDG (relaxed with the force field).
    seed : int
        For ``reembed``.

    Raises
    ------
    ValueError
        No force field has parameters for it, or it cannot be embedded.
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
    # Not converged is no fault: the hydrogens are placed, and the contracts judge where.
    field.Minimize(maxIts=500)
    return full
