"""Students, teachers and their shared code: PyTorch and ASE in, energies (eV) and forces (eV/Å) out."""
