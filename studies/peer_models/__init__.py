"""Other people's models to be timed beside the students: one file each, found by its name.

Each lives in an environment of its own, which its inline metadata (PEP 723) describe, and is driven over its standard
input and output; `_worker` says what such a file has.
"""
