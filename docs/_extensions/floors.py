"""The directives `floors` and `rooms` draw and list, on the page Architecture, what `architecture.toml` holds."""

import tomllib
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

Floor = dict[str, str]

WIDTH, LEFT, HEIGHT, GAP = 440, 42, 44, 8  # pixels: of the drawing, of its left margin, of a floor, between two


def read_floors(path: Path) -> tuple[list[Floor], set[str]]:
    """Return the floors from the roof down, each room -> what it holds, and the names of the libraries."""
    content = tomllib.loads(path.read_text("utf-8"))
    return content["floor"], set(content["libraries"])


def draw(floors: list[Floor], libraries: set[str]) -> str:
    """Draw the floors as SVG, whose colours are those of the page."""
    height = len(floors) * (HEIGHT + GAP) + GAP
    parts = [
        f'<svg class="floors" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="floors-title">',
        f'<title id="floors-title">{escape(_in_words(floors))}</title>',
        '<defs><marker id="floors-head" viewBox="0 0 8 8" refX="4" refY="7" markerWidth="7" markerHeight="7">'
        '<path d="M0 0 L4 8 L8 0 z"/></marker></defs>',
        f'<line class="down" x1="12" y1="{GAP}" x2="12" y2="{height - GAP - 2}" marker-end="url(#floors-head)"/>',
        f'<text class="label" transform="translate(20 {height / 2:g}) rotate(90)">imports go down only</text>',
    ]
    for number, floor in enumerate(floors):
        top = GAP + number * (HEIGHT + GAP)
        width = (WIDTH - LEFT - 1 + GAP) / len(floor)
        for place, (room, holds) in enumerate(floor.items()):
            left = LEFT + place * width
            kind = "room library" if room in libraries else "room"
            parts.append(
                f'<g class="{kind}"><title>{escape(holds.replace("`", ""))}</title>'
                f'<rect x="{left:g}" y="{top}" width="{width - GAP:g}" height="{HEIGHT}" rx="4"/>'
                f'<text x="{left + (width - GAP) / 2:g}" y="{top + HEIGHT / 2 + 5:g}">{escape(room)}</text></g>'
            )
    return "\n".join([*parts, "</svg>"])


def _in_words(floors: list[Floor]) -> str:
    return "Floors from the roof down: " + "; ".join(", ".join(floor) for floor in floors)


class Floors(SphinxDirective):
    """Draw the floors."""

    def run(self) -> list[nodes.Node]:
        """Return the drawing."""
        path = Path(self.env.srcdir, "architecture.toml")
        self.env.note_dependency(str(path))
        return [nodes.raw("", draw(*read_floors(path)), format="html")]


class Rooms(SphinxDirective):
    """List what each room holds, from the roof down."""

    def run(self) -> list[nodes.Node]:
        """Return a table."""
        path = Path(self.env.srcdir, "architecture.toml")
        self.env.note_dependency(str(path))
        floors, _ = read_floors(path)
        rows = [f"| `{room}` | {holds} |" for floor in floors for room, holds in floor.items()]
        return self.parse_text_to_nodes("\n".join(["| room | what it holds |", "| --- | --- |", *rows]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("floors", Floors)
    app.add_directive("rooms", Rooms)
    return {"parallel_read_safe": True}
