"""Molecules from SDF records: reading, hydrogens, additional geometries and splits."""
