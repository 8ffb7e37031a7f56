"""HTML report: one self-contained file with charts and structures as inline SVG."""
