"""The presets carry the figures of the paper's appendix A, spelled out here a second time."""

import pytest
import torch

from vdm_bench.errors import InputError
from vdm_bench.reference_model.config import get_preset, preset_names
from vdm_bench.reference_model.unet import VideoUNet

# Ho et al. 2022, arXiv 2204.03458, appendix A: a column a preset.
TABLE = {
    "model.base_channels": (256, 128, 256, 128, 256, 128),
    "model.multipliers": ((1, 2, 4, 8), (1, 2, 3, 4), *[(1, 2, 4, 8)] * 3, (1, 2, 4, 8, 16)),
    "model.blocks": (2, 3, 2, 2, 2, 2),
    "model.attention_resolutions": [(8, 16, 32)] * 6,
    "model.head_dim": (64, 64, 64, 64, 64, 128),
    "model.embedding_dim": [1024] * 6,
    "model.embedding_layers": (4, 2, 2, 4, 4, 4),
    "training.frame_stride": [1] * 6,
    "training.betas": ((0.9, 0.99), (0.9, 0.999), *[(0.9, 0.99)] * 4),
    "training.learning_rate": (3e-4, 2e-4, 2e-4, 3e-4, 3e-4, 2e-4),
    "training.weight_decay": (0.0, 0.01, 0.0, 0.0, 0.0, 0.0),
    "training.batch": (128, 128, 256, 128, 128, 128),
    "training.ema": (0.9999, 0.999, 0.9999, 0.9999, 0.9999, 0.9999),
    "model.dropout": (0.1, 0.1, 0.1, 0.0, 0.0, 0.0),
    "training.steps": (60_000, 660_000, 220_000, 200_000, 700_000, 800_000),
    "training.joint_images": (8, 8, 8, 8, 8, 7),
    "sampling.steps": (256, 256, 128, 256, 256, 256),
    "sampling.sampler": ("ancestral", *["predictor-corrector"] * 2, *["ancestral"] * 3),
    "sampling.gamma": (0.1, 0.0, 0.0, 0.3, 0.3, 0.3),
    "model.prediction": ("eps", "v", "v", "eps", "eps", "eps"),
    "training.flip": (False, True, False, False, False, False),
    "model.frames": (16, 16, 16, 16, 16, 9),
    "model.resolution": (64, 64, 64, 64, 64, 128),
    "model.text_dim": (0, 0, 0, 1024, 1024, 1024),
    "model.classes": [0] * 6,
}
NAMES = ("ucf101", "bair", "kinetics600", "text-small", "text-large", "text-9x128")


@pytest.mark.parametrize(("column", "name"), list(enumerate(NAMES)))
def test_a_preset_has_the_papers_figures(column: int, name: str) -> None:
    preset = get_preset(name)
    for path, row in TABLE.items():
        section, key = path.split(".")
        assert getattr(getattr(preset, section), key) == row[column], path


@pytest.mark.parametrize(("name", "weight"), [("bair", 50.0), ("kinetics600", 9.0)])
def test_prediction_presets_have_the_papers_guidance_and_corrector(name: str, weight: float) -> None:
    preset = get_preset(name)
    assert preset.sampling.reconstruction_weight == weight
    assert preset.sampling.delta == 0.1
    assert preset.training.drop_condition == 0.0


def test_every_preset_says_what_it_is() -> None:
    assert set(preset_names()) == {*NAMES, "shapes"}
    assert all(get_preset(name).title for name in preset_names())


def millions(name: str) -> float:
    with torch.device("meta"):
        network = VideoUNet(get_preset(name).model)
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def test_the_kinetics_model_has_the_papers_size() -> None:
    """The one parameter count that the paper gives: 1.1 billion."""
    assert millions("kinetics600") == pytest.approx(1100, rel=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_builds(name: str) -> None:
    assert 100 < millions(name) < 1200


def test_the_shapes_model_fits_in_ten_megabytes_of_float16() -> None:
    assert millions("shapes") < 5


def test_an_unknown_preset_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="unknown preset 'ucf-101'; did you mean 'ucf101'"):
        get_preset("ucf-101")


def test_a_setting_of_the_wrong_type_or_name_is_refused() -> None:
    preset = get_preset("shapes")
    with pytest.raises(InputError, match="unknown setting 'learning_rat'; did you mean 'learning_rate'"):
        preset.override("training", learning_rat=1.0)
    with pytest.raises(InputError, match="batch is 'many'; it must be of type int"):
        preset.override("training", batch="many")
