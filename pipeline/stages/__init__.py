"""One module a DVC stage: ``run`` computes, ``main`` reads and writes the files."""
