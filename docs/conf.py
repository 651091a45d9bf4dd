"""How the site is built: `tox run -e docs`, or `sphinx-build -W docs docs/_build/html`. Nothing is fetched."""

import itertools
import os
import re
import sys
from pathlib import Path

from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_extensions"))
os.environ["VDM_BENCH_CACHE"] = (
    "~/.cache/vdm-bench"  # defaults are shown as users see them, not as this machine has them
)

import vdm_bench.protocols  # noqa: E402, F401 - made before autodoc changes annotations of pydantic's base class
from vdm_bench.version import __version__  # noqa: E402

project = "vdm-bench"
author = "the authors of vdm-bench"
version = release = __version__
html_title = f"vdm-bench {__version__}"
html_show_copyright = False
html_show_sourcelink = False

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "floors",
    "public_names",
]
exclude_patterns = ["_build"]

# Markdown. Headings get the anchors that they have on GitHub; an unknown anchor is an error.
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]

# Python. Docstrings quote code by single backticks.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "github-dark"

# Every type in a public signature is documented here, or is another project's.
nitpicky = True
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(collections|contextlib|fractions|importlib|numpy|os|pandas|pathlib|torch|torchmetrics|typing)\..*",
    ),
    ("py:class", "(VideoSet|DescribedClips)"),  # annotations of the registry, which imports nothing
]


def _keep_the_summary(
    _app: Sphinx, what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Put an escaped blank before `Name: text`, which Napoleon would take for the type of a property."""
    if what in {"attribute", "data", "property"} and lines:
        lines.insert(0, "\\ ")


_ARRAY = re.compile(r"~?numpy\.ndarray\[tuple\[(?:~?typing\.)?Any, \.\.\.\], ~?numpy\.dtype\[([^\]]+)\]\]")


def _shortened(text: str | None) -> str | None:
    return text and _ARRAY.sub(r"~numpy.typing.NDArray[\1]", text).replace("<factory>", "...")


def _shorten(
    _app: Sphinx,
    _what: str,
    _name: str,
    found: object,
    _options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Write arrays as the code does, `NDArray[float64]`; no default factories, no pydantic validators."""
    if isinstance(found, type) and issubclass(found, BaseModel):
        return "(**fields)", None
    return _shortened(signature), _shortened(returns)


_OPTION = re.compile(r"(?<![\w`:-])--[a-z][\w-]*(?![\w`])")


def _write_option(_app: Sphinx, _context: object, lines: list[str]) -> None:
    """Quote options in the help of options, so that they keep their hyphens."""
    lines[:] = [line if line.startswith(".. ") else _OPTION.sub(r"`\g<0>`", line) for line in lines]


def _write_help(_app: Sphinx, _context: object, lines: list[str]) -> None:
    """Turn a help text into reStructuredText: what is set off by `\\b` is literal, and stars are stars."""
    written: list[str] = []
    for kept, group in itertools.groupby(lines, key=lambda line: line.startswith("| ")):
        texts = [line.removeprefix("| ") if kept else line.replace("*", "\\*") for line in group]
        if not kept:
            texts = [_OPTION.sub(r"`\g<0>`", text) for text in texts]
        literal = kept and any(text.startswith("vdm-bench ") or "  " in text for text in texts)
        written += ["::", "", *(f"   {text}" for text in texts), ""] if literal else texts
    lines[:] = written


def setup(app: Sphinx) -> None:
    """Connect what is above."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.connect("autodoc-process-signature", _shorten)
    app.connect("autodoc-process-docstring", _keep_the_summary, priority=400)
    app.connect("sphinx-click-process-description", _write_help)
    app.connect("sphinx-click-process-options", _write_option)
