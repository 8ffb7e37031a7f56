"""Data set in memory: arrays, fingerprint, label keys and units, conversion from ASE Atoms."""
