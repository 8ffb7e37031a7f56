"""The accident atlas: which data accidents cost how much, and who would have seen them; ``nox -s atlas``."""
