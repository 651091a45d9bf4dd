"""A sampler without torch, in its own virtual environment: the example of docs/command-samplers.md.

python3 -m venv other && other/bin/pip install numpy
vdm-bench run shapes-unconditional --sampler-command "other/bin/python examples/command_sampler/sampler.py"
"""

from types import SimpleNamespace

import client
import numpy as np


def prepare(options: dict[str, str]) -> client.Make:
    """Read the options; a real sampler would load its model here."""
    levels = int(options.get("levels", "4"))

    def make(request: SimpleNamespace) -> np.ndarray:
        """Make clips of one colour that grow brighter; the seed decides the colour."""
        clips = np.empty((len(request.seeds), request.frames, request.height, request.width, 3), np.uint8)
        for clip, seed in zip(clips, request.seeds, strict=True):
            colour = np.random.default_rng(seed).integers(0, levels, 3) * (255 // levels)
            ramp = np.linspace(0.5, 1.0, request.frames)
            clip[:] = (ramp[:, None] * colour)[:, None, None]
        if request.context is not None:
            clips[:, : request.context.shape[1]] = request.context
        return clips

    return make


if __name__ == "__main__":
    client.serve(prepare=prepare)
