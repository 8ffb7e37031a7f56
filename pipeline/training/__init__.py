"""Training of a student, its state between epochs, and its predictions."""
