"""Reports: Markdown, HTML, comments on pull requests, PyMOL scripts."""
