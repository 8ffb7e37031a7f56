"""Benchmarks, third-party models, the atlas of data corruptions and parameter studies; not installed."""
