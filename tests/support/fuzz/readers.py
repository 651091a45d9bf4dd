"""The table of every reader of the project, by name."""

from fuzz.clips import CLIPS
from fuzz.inputs import Reader
from fuzz.kept import KEPT
from fuzz.texts import TEXTS

READERS: dict[str, Reader] = {**CLIPS, **KEPT, **TEXTS}
