"""video-diffusion-pytorch (PyPI) as a sampler, in its own virtual environment.

It needs torchvision, which does not import with every build of torch: it may fail in vdm-bench's environment.

    python3 -m venv vdp && vdp/bin/pip install video-diffusion-pytorch
    sampler="vdp/bin/python examples/video_diffusion_pytorch/vdp_sampler.py"
    vdm-bench run shapes-unconditional --sampler-command "$sampler" --option checkpoint=results/model-10.pt
"""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

# In your repository, put a copy of client.py next to the sampler.
sys.path.append(str(Path(__file__).resolve().parents[1] / "command_sampler"))
import client


def prepare(options: dict[str, str]) -> client.Make:
    """Build the network as it was trained.

    Args:
        options: `dim` and `timesteps` as in training (64, 1000); `checkpoint`, a file saved by its `Trainer`.
            Without a checkpoint the weights are random, which is enough to try the setup.
    """
    package = importlib.import_module("video_diffusion_pytorch")
    torch.manual_seed(0)  # for random weights: the same clips in every process
    network = package.Unet3D(dim=int(options.get("dim", "64")), dim_mults=(1, 2, 4, 8))
    timesteps, checkpoint = int(options.get("timesteps", "1000")), options.get("checkpoint")
    # Only tensors and numbers: nothing that could run code is unpickled.
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["ema"] if checkpoint else None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made: dict[tuple[int, int], Any] = {}

    def diffusion(frames: int, size: int) -> Any:
        if (frames, size) not in made:
            process = package.GaussianDiffusion(network, image_size=size, num_frames=frames, timesteps=timesteps)
            if state is not None:
                process.load_state_dict(state)
            made[frames, size] = process.to(device).eval()
        return made[frames, size]

    def make(request: SimpleNamespace) -> np.ndarray:
        """Make clips one by one: the package draws from torch's global generator, seeded for each clip."""
        if request.context is not None or request.labels is not None or request.captions is not None:
            raise ValueError("this sampler is unconditional; choose an unconditional protocol")
        process = diffusion(request.frames, request.height)
        clips = []
        for seed in request.seeds:
            torch.manual_seed(seed)
            clips.append(process.sample(batch_size=1)[0].clamp(0, 1))  # float [3, T, H, W] in [0, 1]
        pixels = (torch.stack(clips) * 255).round().to(torch.uint8)
        return pixels.permute(0, 2, 3, 4, 1).cpu().numpy()

    return make


if __name__ == "__main__":
    client.serve(prepare=prepare)
