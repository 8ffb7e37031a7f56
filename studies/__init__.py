"""Benchmarks, other people's models, the atlas of data corruptions and studies of settings; not installed."""
