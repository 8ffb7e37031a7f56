"""The students: one file each, found by its name."""
