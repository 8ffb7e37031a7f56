"""Training of a student, its saved state, and its predictions."""
