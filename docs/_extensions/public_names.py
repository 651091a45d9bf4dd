"""The directive `public-names`: documents what a module lists in `__all__`, in that order, from its docstrings.

.. public-names:: vdm_bench.reference_model.guidance
   :without: Chain
"""

import importlib
import inspect
from typing import Any, ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class PublicNames(SphinxDirective):
    """Write an `autofunction`, `autoclass` or `autodata` for every public name of a module."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"without": str.split}

    def run(self) -> list[nodes.Node]:
        """Return the documentation of the names."""
        module = importlib.import_module(self.arguments[0])
        names = [name for name in module.__all__ if name not in {"__version__", *self.options.get("without", ())}]
        lines = [line for name in names for line in _directive(module.__name__, name, getattr(module, name))]
        parent = nodes.Element()
        self.state.nested_parse(StringList(lines, self.get_source_info()[0]), self.content_offset, parent)
        return list(parent.children)


def _directive(module: str, name: str, found: object) -> list[str]:
    if inspect.isclass(found):
        return [f".. autoclass:: {module}.{name}", "   :members:", ""]
    return [f".. auto{'function' if inspect.isroutine(found) else 'data'}:: {module}.{name}", ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("public-names", PublicNames)
    return {"parallel_read_safe": True}
