"""Log the FVD of a model while it trains: PyTorch Lightning, `shapes`, the embedded network, on a CPU.

    python examples/lightning_fvd/train_autoencoder.py

The model is a variational autoencoder with two linear layers. Its clips are blurred, but it trains in seconds.
Needs `pip install pytorch-lightning`.
"""

import click
import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vdm_bench.datasets.shapes.dataset import Shapes
from vdm_bench.metrics.modules import FrechetVideoDistance

FRAMES, SIZE, LATENTS = 8, 32, 32
SHAPE = (3, FRAMES, SIZE, SIZE)


class Autoencoder(pl.LightningModule):
    """Clips float [N, 3, 8, 32, 32] in [-1, 1] -> latents [N, 32] -> clips."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(SHAPE)), 2 * LATENTS))
        self.decoder = nn.Sequential(nn.Linear(LATENTS, int(np.prod(SHAPE))), nn.Tanh(), nn.Unflatten(1, SHAPE))
        self.fvd = FrechetVideoDistance("embedded")

    def sample(self, count: int) -> Tensor:
        """Draw clips float [count, 3, 8, 32, 32] in [-1, 1]."""
        clips: Tensor = self.decoder(torch.randn(count, LATENTS, device=self.device))
        return clips

    def training_step(self, clips: Tensor, index: int) -> Tensor:
        """Return the negative evidence lower bound, in nats per pixel, up to a constant."""
        mean, log_variance = self.encoder(clips).chunk(2, dim=1)
        latents = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        error = (self.decoder(latents) - clips).square().flatten(1).sum(dim=1) / 0.1
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
        loss: Tensor = (error + divergence).mean() / (2 * clips[0].numel())
        return loss

    def validation_step(self, clips: Tensor, index: int) -> None:
        """Add a batch of real clips, and as many generated ones."""
        self.fvd.update(clips, real=True)
        self.fvd.update(self.sample(len(clips)), real=False)
        self.log("fvd", self.fvd)  # Lightning computes it at the end of the epoch, over all ranks, and resets it

    def on_validation_end(self) -> None:
        """Print what was logged."""
        print(f"step {self.trainer.global_step:3}  fvd {self.trainer.callback_metrics['fvd']:.1f}", flush=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam for encoder and decoder."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Clips(Dataset[Tensor]):
    """The first clips of a split of `shapes`: float [3, 8, 32, 32] in [-1, 1] each."""

    def __init__(self, split: str, count: int) -> None:
        self.shapes = Shapes(split, resolution=SIZE, frames=FRAMES)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.shapes[index].frames).movedim(-1, 0) / 127.5 - 1


@click.command()
@click.option("--epochs", default=5, show_default=True, help="Training epochs.")
@click.option("--clips", default=512, show_default=True, help="Training clips; a quarter as many for validation.")
def main(epochs: int, clips: int) -> None:
    """Train, and print the FVD before the first epoch and after each."""
    pl.seed_everything(0, verbose=False)
    torch.set_num_threads(1)  # more do not help with layers as small as these
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    model = Autoencoder()
    validation = DataLoader(Clips("test", clips // 4), batch_size=64)
    trainer.validate(model, validation, verbose=False)
    trainer.fit(model, DataLoader(Clips("train", clips), batch_size=16, shuffle=True), validation)


if __name__ == "__main__":
    main()
