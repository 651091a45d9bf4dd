"""A page as HTML: templates that escape what they show, and a policy by which nothing runs but the page's script.

Names, paths and notes come from outside and may be hostile. They reach a template as texts alone: jinja2 escapes
each, and what cannot be seen is spelt out.
"""

import base64
import functools
import hashlib
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from vdm_bench.runtime.printable import printable


def render(template: str, page: object, *, linked: bool = False) -> str:
    """Fill a template.

    Args:
        template: its name, such as `page.html`.
        page: what it shows.
        linked: whether the page refers to clips in files beside it.
    """
    style, script = _read("report.css"), _read("report.js")
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
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
            # The package's own files, and what the policy has the hash of: not escaped.
            style=Markup(style),
            script=Markup(script),
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
    """Spell out what cannot be seen; jinja2 calls this for all that a template shows, before it escapes it."""
    return printable(value, None) if isinstance(value, str) and not isinstance(value, Markup) else value


@functools.cache
def _read(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
