"""Benchmarks, each run as a module; speed is a ratio of contestants measured side by side."""
