"""Train the embedded network on `shapes` train and measure it on `shapes` test.

    python examples/embedded_network/train.py --out metrics/networks/embedded.safetensors

Trains with batch normalisation after each convolution and folds it into the convolutions before saving.
The clips of `shapes` live on a torus, so rolling, mirroring and transposing a batch gives clips that are as
likely as the ones it came from. Half an hour on two CPU cores; the log of the shipped weights is `train.log`.
"""

import functools
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from vdm_bench.datasets.shapes.dataset import Shapes, ShapesLabel
from vdm_bench.metrics.networks.embedded import (
    CONVOLUTIONS,
    FEATURES,
    HEADS,
    EmbeddedClassifier,
    EmbeddedNetwork,
    channels_last,
)
from vdm_bench.metrics.weights import content_digest
from vdm_bench.runtime.bfloat16 import cpu_computes_bfloat16
from vdm_bench.runtime.files import write_bytes

BATCH = 128


class TrainableClassifier(EmbeddedClassifier):
    """The classifier with a batch normalisation between each convolution and its ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm3d(outside) for _, outside, _, _ in CONVOLUTIONS)
        self.temporal_norm = nn.BatchNorm1d(FEATURES)

    def features(self, x: Tensor) -> Tensor:
        """Average the last feature map, as the parent, with normalisation."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.relu(norm(convolution(x)))
        return F.relu(self.temporal_norm(self.temporal(x.mean(dim=(-2, -1))))).mean(dim=-1)

    def folded(self) -> dict[str, Tensor]:
        """Return the weights of the plain classifier that computes the same in evaluation mode."""
        plain = EmbeddedClassifier()
        plain.load_state_dict({k: v for k, v in self.state_dict().items() if "norm" not in k})
        weights = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
        names = [*(f"convolutions.{i}" for i in range(len(self.norms))), "temporal"]
        for name, norm in zip(names, [*self.norms, self.temporal_norm], strict=True):
            state = norm.state_dict()
            scale = state["weight"] / torch.sqrt(state["running_var"] + 1e-5)  # PyTorch's default epsilon
            kernel = weights[f"{name}.weight"]
            weights[f"{name}.weight"] = kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1))
            weights[f"{name}.bias"] = (weights[f"{name}.bias"] - state["running_mean"]) * scale + state["bias"]
        return {name: tensor.contiguous() for name, tensor in weights.items()}


def render(split: str, index: int) -> tuple[np.ndarray, int]:
    """Return the frames and the label of one clip."""
    clip = Shapes(split)[index]
    return clip.frames, clip.label or 0


def load_clips(split: str, count: int) -> tuple[Tensor, Tensor]:
    """Render clips 0..count-1: uint8 [N, 16, 32, 32, 3] and int64 [N, 3] (shape, colour, motion)."""
    with ProcessPoolExecutor() as pool:
        results = list(pool.map(functools.partial(render, split), range(count), chunksize=512))
    parts = [ShapesLabel.of(label) for _, label in results]
    labels = torch.tensor([[part.shape, part.colour, part.motion] for part in parts])
    return torch.from_numpy(np.stack([frames for frames, _ in results])), labels


def augment(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Roll the batch over the torus, mirror and transpose it at random."""
    down, right, mirror, transpose = torch.randint(0, 32, (4,), generator=generator).tolist()
    clips = torch.roll(clips, (down, right), dims=(2, 3))
    if mirror % 2:
        clips = clips.flip(3)
    return clips.transpose(2, 3) if transpose % 2 else clips


def accuracy(weights: dict[str, Tensor], clips: Tensor, labels: Tensor) -> dict[str, float]:
    """Share of clips whose shape, colour and motion the shipped form of the network names right."""
    network = EmbeddedNetwork(weights)
    logits = torch.cat([network(clips[i : i + 32])["logits"] for i in range(0, len(clips), 32)])
    joint = logits.reshape(-1, *HEADS.values())
    guesses = [joint.logsumexp([d for d in (1, 2, 3) if d != axis]).argmax(-1) for axis in (1, 2, 3)]
    return {
        name: (guess == labels[:, head]).double().mean().item()
        for head, (name, guess) in enumerate(zip(HEADS, guesses, strict=True))
    }


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where the weights go.")
@click.option("--train-clips", default=65536, show_default=True)
@click.option("--test-clips", default=8192, show_default=True)
@click.option("--epochs", default=9, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(out: Path, train_clips: int, test_clips: int, epochs: int, seed: int) -> None:
    """Train, measure and save the embedded network."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    clips, labels = load_clips("train", train_clips)
    test = load_clips("test", test_clips)
    model = TrainableClassifier()
    for parameter in model.parameters():
        parameter.data = channels_last(parameter.data)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    steps = epochs * (train_clips // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps, pct_start=0.2)
    start, fast = time.time(), cpu_computes_bfloat16()
    for epoch in range(epochs):
        model.train()
        total = 0.0
        order = torch.randperm(train_clips, generator=generator)
        for indices in order[: train_clips // BATCH * BATCH].reshape(-1, BATCH):
            x = augment(clips[indices], generator).movedim(-1, 1).float() * (2 / 255) - 1
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                _, logits = model(channels_last(x))
            losses = [F.cross_entropy(logits[n].float(), labels[indices, h]) for h, n in enumerate(HEADS)]
            loss = torch.stack(losses).sum()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            total += loss.item()
        weights = model.eval().folded()
        shares = " ".join(f"{name} {share:.4f}" for name, share in accuracy(weights, *test).items())
        mean_loss = total / (train_clips // BATCH)
        print(
            f"epoch {epoch + 1} loss {mean_loss:.4f} test {shares} seconds {time.time() - start:.0f}", flush=True
        )
        write_bytes(out, save(weights))
    print(f"saved weights {content_digest(weights)[:8]}, {sum(w.numel() for w in weights.values())} parameters")


if __name__ == "__main__":
    main()
