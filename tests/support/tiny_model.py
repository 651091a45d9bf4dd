"""An architecture of 4x8x8 clips, small enough for every test."""

from vdm_bench.reference_model.config import ModelConfig

TINY = ModelConfig(
    frames=4,
    resolution=8,
    base_channels=8,
    multipliers=(1, 2),
    blocks=1,
    attention_resolutions=(4,),
    head_dim=8,
    embedding_dim=16,
    relative_distance=4,
    classes=3,
)
