"""Reports for people: the terminal, Markdown. Names from molecule files are untrusted and are escaped."""
