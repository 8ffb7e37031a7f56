"""Human-readable reports: terminal, Markdown, HTML, CI. Names from molecule files are untrusted and are escaped."""
