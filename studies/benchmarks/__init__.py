"""Benchmarks, each run as a module; speeds are ratios between contestants measured in turn."""
