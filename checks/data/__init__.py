"""The data set in memory: arrays, fingerprint, keys and units of labels, readers of ASE atoms."""
