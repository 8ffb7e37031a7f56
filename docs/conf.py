"""The docs as a site: `python -m nox -s docs`, where a warning is an error. A new page under docs/ joins by itself."""

import re
import tomllib
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What a browser would fetch by itself: scripts, images, styles, fonts; not what a reader may click on.
REMOTE = re.compile(
    r"""<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=["'](?:https?:)?//|url\(["']?(?:https?:)?//|@import"""
)

project = "Hydrogate"
project_copyright = "The Hydrogate developers"
release = PROJECT["version"]
extensions = ["myst_parser", "sphinx.ext.napoleon", "autoapi.extension"]
default_role = "code"
highlight_language = "text"
add_module_names = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 100
myst_heading_anchors = 4  # the anchors that GitHub gives, down to this level

# The reference is read from the sources, and nothing is imported: torch need not be installed.
autoapi_dirs = [str(ROOT / "hydrogate")]
autoapi_follow_symlinks = True  # hydrogate/ holds links
autoapi_ignore = ["*/pipeline/cli/*"]  # `hydrogate COMMAND --help` is their reference
autoapi_python_use_implicit_namespaces = True
autoapi_options = ["members", "undoc-members", "show-module-summary"]
autoapi_root = "api"
autoapi_add_toctree_entry = False
suppress_warnings = ["autoapi.python_import_resolution"]  # of imported names, which the reference does not repeat
# Types are text here, "float array (n, 3)", whose words are no references.
napoleon_use_param = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"Hydrogate {release}"
html_copy_source = False
html_show_sphinx = False


def refuse_remote(app: Sphinx, failure: Exception | None) -> None:
    """Fail where a page would fetch something from elsewhere: the site is to be read offline, and tells nobody."""
    for path in sorted(app.outdir.rglob("*")):
        if path.suffix in (".html", ".css") and (found := REMOTE.search(path.read_text(encoding="utf-8"))):
            raise ExtensionError(f"{path} fetches something from elsewhere: {found[0]}")


def to_rst(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keep |F| a magnitude, which would name a substitution, and make a stage's "In:" and "Out:" a list of fields."""
    for index, line in enumerate(lines):
        line = re.sub(r"^(In|Out): +", r":\1: ", line)
        lines[index] = re.sub(r"(`[^`]*`)|\|", lambda found: found[1] or r"\|", line)


def setup(app: Sphinx) -> None:
    """Connect the hooks; Sphinx calls this after it has read the file."""
    app.connect("autodoc-process-docstring", to_rst)
    app.connect("build-finished", refuse_remote)
