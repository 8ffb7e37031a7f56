"""Molecular dynamics of many molecules, and trajectory files."""
