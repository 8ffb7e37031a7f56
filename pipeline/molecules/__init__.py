"""From records of SDF files to molecules, hydrogens, geometries and splits."""
