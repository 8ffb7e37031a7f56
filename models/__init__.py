"""Students, teachers and what they share: torch and ASE in, energies (eV) and forces (eV/Å) out."""
