"""Render a page as HTML: templates escape all text, and a policy allows the page's own script alone.

Names, paths and notes come from outside and may be hostile. They reach a template as plain text only: jinja2
escapes it, and invisible characters are spelt out.
"""

import base64
import functools
import hashlib
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from vdm_bench.runtime.printable import printable

_SCRIPTS = ("tables.js", "clips.js")


def render(template: str, page: object, *, linked: bool = False) -> str:
    """Return the HTML of a page.

    Args:
        template: name of the template, such as `page.html`.
        page: its contents, available to the template as `page`.
        linked: whether the page refers to video files next to it.
    """
    style, scripts = _read("report.css"), [_read(name) for name in _SCRIPTS]
    policy = {
        "default-src": "'none'",
        "script-src": " ".join(map(_hash, scripts)),
        "style-src": _hash(style),
        "img-src": "data:",
        "media-src": "data: 'self'" if linked else "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return (
        _environment()
        .get_template(template)
        .render(
            page=page,
            policy="; ".join(f"{directive} {sources}" for directive, sources in policy.items()),
            # The package's own files, whose hashes are in the policy: not escaped.
            style=Markup(style),
            scripts=[Markup(script) for script in scripts],
        )
    )


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _visible(value: Any) -> Any:
    """Spell out invisible characters; jinja2 calls this on every value that it prints, before escaping."""
    return printable(value, None) if isinstance(value, str) and not isinstance(value, Markup) else value


@functools.cache
def _read(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
