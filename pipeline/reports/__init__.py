"""Reports for people: Markdown, HTML, pull requests, PyMOL."""
