"""Implementation of the ``hydrogate`` commands that are not DVC stages."""
