"""HDF5 files, atomic writes, outputs of commands, and resumption after a killed process."""
