"""What continuous integration reads: comments on pull requests, annotations, JUnit XML."""
