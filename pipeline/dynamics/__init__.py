"""Molecular dynamics of many molecules and the files of trajectories."""
