"""Atlas of data corruptions: their cost for a student, and the validators that find them; ``nox -s atlas``."""
