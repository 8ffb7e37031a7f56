"""Output for continuous integration: comments on pull requests, annotations, JUnit XML."""
