"""The stages of the pipeline and the command line: the only package that touches files."""
