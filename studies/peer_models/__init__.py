"""Third-party models to benchmark against the students: one file each, loaded by its name.

Each runs in its own environment, described by its inline metadata (PEP 723), and is driven over standard input and
output; `_worker` documents the required content of such a file.
"""
