"""Offline version of Great Expectations' Data Docs pages.

The original pages load styles and scripts from about fifteen files on content delivery networks. Offline they are
unstyled, and online four companies see who opens them. This module removes links, scripts and images and embeds its own
stylesheet. Sections that scripts would expand are shown expanded.
"""

import re
from importlib.resources import files

_REMOVED = re.compile(
    r"<(script|style|footer|head)\b.*?</\1>|<(?:link|img|input)\b[^>]*>|<label\b.*?</label>|\son\w+=\"[^\"]*\"",
    re.DOTALL | re.IGNORECASE,
)
_ACTIONS = re.compile(
    r'<div class="card mb-3">\s*<div class="card-header p-2">\s*<strong>Actions<.*?(?=<div class="card d-)', re.DOTALL
)
_BRAND = re.compile(r'<div class="float-left navbar-brand.*?</div>', re.DOTALL)
_HEAD = """<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Data Docs</title>
<style>{style}</style>
</head>
<body>"""


def offline(page: str) -> str:
    """Return ``page`` with all external references removed and the embedded stylesheet added."""
    style = files("hydrogate.checks.contracts").joinpath("data_docs.css").read_text("utf-8")
    body = _REMOVED.sub("", _BRAND.sub("", _ACTIONS.sub("", page)))
    body = re.sub(r'href="[^"#]*/index\.html"', 'href="index.html"', body)
    body = re.sub(r'href="[^"]*/expectations/[^"]*\.html"', 'href="expectations.html"', body)
    return body.replace("<body>", _HEAD.format(style=style), 1)
