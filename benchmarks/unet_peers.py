"""The networks that `unet.py` compares: the reference model's, video-diffusion-pytorch's and diffusers'.

All have three resolutions and about 6.4 million parameters, ours the most; what else they have is their own
design. Peers are those of PyPI as their users get them, each with its own sampler. A smaller one of
video-diffusion-pytorch, with half the parameters and the same base channels as ours, is measured too, and a wider
one of ours, 7.6 million, with one residual block per resolution as in diffusers; the others have two.
"""

import contextlib
import functools
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vdm_bench.reference_model.config import ModelConfig
from vdm_bench.reference_model.noise import NoiseStream
from vdm_bench.reference_model.process import Prediction
from vdm_bench.reference_model.samplers import ancestral
from vdm_bench.reference_model.unet import VideoUNet

FRAMES = 16
TEXT_DIM = 32  # of the token that diffusers' network attends to; it always needs text


@dataclass(frozen=True, eq=False)
class Contender:
    """A network that is measured.

    Attributes:
        network: with its weights.
        predict: z, float [B, 3, 16, H, W], to a prediction of the same shape.
        sample: clips and network evaluations to a batch of as many clips, by its own ancestral sampler.
    """

    network: nn.Module
    predict: Callable[[Tensor], Tensor]
    sample: Callable[[int, int], Tensor]

    @property
    def parameters(self) -> int:
        """How many weights it has."""
        return sum(weight.numel() for weight in self.network.parameters())


def config(resolution: int, blocks: int = 2) -> ModelConfig:
    """Ours, for clips of this resolution, with two residual blocks a resolution or a wider one with one."""
    return ModelConfig(
        frames=FRAMES,
        resolution=resolution,
        base_channels=32,
        multipliers=(1, 2, 5) if blocks == 2 else (1, 2, 7),
        blocks=blocks,
        head_dim=32,
        embedding_dim=160,
        prediction="eps",
    )


def reference(
    resolution: int, device: torch.device, *, blocks: int = 2, bf16: bool = False, compiled: bool = False
) -> Contender:
    """The reference model's network and its ancestral sampler, in float32 or under bfloat16 autocast."""
    network = VideoUNet(config(resolution, blocks)).to(device)
    forward: Callable[[Tensor, Tensor], Tensor] = torch.compile(network) if compiled else network

    def run(z: Tensor, log_snr: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return forward(z, log_snr)

    def denoise(z: Tensor, log_snr: Tensor) -> Prediction:
        return Prediction.of("eps", run(z, log_snr.to(device).expand(len(z))), z, log_snr)

    @torch.inference_mode()
    def sample(clips: int, evaluations: int) -> Tensor:
        noise = NoiseStream(range(clips), network.config.clip_shape, device)
        return ancestral(denoise, noise, steps=evaluations)

    return Contender(network, lambda z: run(z, torch.zeros(len(z), device=device)), sample)


def video_diffusion_pytorch(resolution: int, device: torch.device, *, dim: int) -> Contender:
    """`Unet3D` and `GaussianDiffusion` of video-diffusion-pytorch.

    Raises:
        ImportError: it is not installed.
    """
    with torchvision_stub():
        peer = importlib.import_module("video_diffusion_pytorch.video_diffusion_pytorch")
    vars(peer)["tqdm"] = lambda steps, **_: steps  # its progress bar would run through the table
    network: nn.Module = peer.Unet3D(dim=dim, dim_mults=(1, 2, 4)).to(device)

    def sample(clips: int, evaluations: int) -> Tensor:
        shape = {"image_size": resolution, "num_frames": FRAMES}
        diffusion = peer.GaussianDiffusion(network, **shape, timesteps=evaluations).to(device)
        sampled: Tensor = diffusion.sample(batch_size=clips)
        return sampled

    return Contender(network, lambda z: network(z, torch.zeros(len(z), device=device)), sample)


def diffusers(resolution: int, device: torch.device) -> Contender:
    """`UNet3DConditionModel` and `DDPMScheduler` of diffusers, with one token of text.

    Raises:
        ImportError: it is not installed.
    """
    peer = importlib.import_module("diffusers")
    network: nn.Module = peer.UNet3DConditionModel(
        sample_size=resolution,
        in_channels=3,
        out_channels=3,
        block_out_channels=(32, 64, 128),
        down_block_types=("CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"),
        layers_per_block=1,
        cross_attention_dim=TEXT_DIM,
        attention_head_dim=32,
    ).to(device)

    def predict(z: Tensor, time: Tensor | int = 0) -> Tensor:
        predicted: Tensor = network(z, time, torch.zeros(len(z), 1, TEXT_DIM, device=device)).sample
        return predicted

    @torch.inference_mode()
    def sample(clips: int, evaluations: int) -> Tensor:
        scheduler = peer.DDPMScheduler()
        scheduler.set_timesteps(evaluations)
        z = torch.randn(clips, 3, FRAMES, resolution, resolution, device=device)
        for time in scheduler.timesteps:
            z = scheduler.step(predict(z, time), time, z).prev_sample
        return z

    return Contender(network, predict, sample)


# Ratios are to the first; bounds are checked for the first two.
CONTENDERS: dict[str, Callable[[int, torch.device], Contender]] = {
    "ours": reference,
    "ours, one block": functools.partial(reference, blocks=1),
    "video-diffusion-pytorch": functools.partial(video_diffusion_pytorch, dim=48),
    "video-diffusion-pytorch, dim 32": functools.partial(video_diffusion_pytorch, dim=32),
    "diffusers": diffusers,
    "ours, bf16": functools.partial(reference, bf16=True),
    "ours, compiled": functools.partial(reference, compiled=True),
    "ours, bf16 compiled": functools.partial(reference, bf16=True, compiled=True),
}


@contextlib.contextmanager
def torchvision_stub() -> Iterator[None]:
    """Put a stub in torchvision's place, which video-diffusion-pytorch imports for its data sets alone.

    It is taken away again, because diffusers asks whether there is a torchvision.
    """
    parts = {name: types.ModuleType(f"torchvision.{name}") for name in ("transforms", "utils")}
    for transform in ("ToTensor", "ToPILImage"):  # made when the peer is imported
        setattr(parts["transforms"], transform, object)
    stub = types.ModuleType("torchvision")
    vars(stub).update(parts)
    stubs = {part.__name__: part for part in (stub, *parts.values())}
    hidden = {name: sys.modules[name] for name in stubs if name in sys.modules}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name in stubs:
            del sys.modules[name]
        sys.modules.update(hidden)
