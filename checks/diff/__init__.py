"""What differs between two declarations or two data sets, and what that loosens."""
