"""Parallel work on processes and clusters."""
