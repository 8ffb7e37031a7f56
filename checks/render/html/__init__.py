"""The HTML report: one file that loads nothing, with charts and structures as inline SVG."""
