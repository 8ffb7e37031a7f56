"""Loops over atoms, pairs and bonds; chemistry and symmetry."""
