"""Passes over atoms, pairs and bonds; chemistry and symmetry."""
