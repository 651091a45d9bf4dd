"""The table of every reader of the project, by name."""

from fuzz_clips import CLIPS
from fuzz_inputs import Reader
from fuzz_kept import KEPT
from fuzz_texts import TEXTS

READERS: dict[str, Reader] = {**CLIPS, **KEPT, **TEXTS}
