"""DVC stages, one module each: ``run`` computes, ``main`` reads and writes the files."""
