"""The Video U-Net: what reaches what, where attention stands, and what it costs."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vdm_bench.errors import InputError
from vdm_bench.reference_model import Condition, ModelConfig, VideoUNet, build_model
from vdm_bench.reference_model.attention import SpatialAttention, TemporalAttention
from vdm_bench.reference_model.embeddings import Embedding, sinusoid
from vdm_bench.reference_model.layers import FrameNorm, ResidualBlock
from vdm_bench.reference_model.unet import UNetBlock, check_size

TINY = ModelConfig(
    frames=4,
    resolution=16,
    base_channels=8,
    multipliers=(1, 2),
    blocks=1,
    attention_resolutions=(8,),
    head_dim=8,
    embedding_dim=32,
    relative_distance=3,
)


def network(config: ModelConfig = TINY, **overrides: object) -> VideoUNet:
    """A network whose every weight matters: none is zero as at the start of training."""
    torch.manual_seed(0)
    made = build_model(config, **overrides)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def clips(config: ModelConfig = TINY, *, batch: int = 2, images: int = 0) -> Tensor:
    shape = (batch, config.channels, config.frames + images, config.resolution, config.resolution)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


LEVELS = torch.tensor([-3.0, 2.0], dtype=torch.float64)


def without_temporal_attention(made: VideoUNet) -> VideoUNet:
    for module in made.modules():
        if isinstance(module, UNetBlock):
            module.temporal = None
    return made


def changed_frames(made: VideoUNet, frame: int, images: int = 0) -> list[bool]:
    z = clips(images=images)
    other = z.clone()
    other[:, :, frame] += 1.0
    with torch.no_grad():
        difference = (made(z, LEVELS, None, images) - made(other, LEVELS, None, images)).abs()
    return [bool(value) for value in difference.amax((0, 1, 3, 4)) > 0]


def test_without_temporal_attention_a_frame_reaches_no_other_frame() -> None:
    assert changed_frames(without_temporal_attention(network()), 1) == [False, True, False, False]


def test_with_temporal_attention_a_frame_reaches_all_frames() -> None:
    assert changed_frames(network(), 1) == [True] * 4


def test_images_see_themselves_alone_and_frames_do_not_see_them() -> None:
    made = network()
    assert changed_frames(made, 0, images=2) == [True] * 4 + [False] * 2
    assert changed_frames(made, 4, images=2) == [False] * 4 + [True, False]


def test_an_image_gives_what_a_video_of_one_frame_gives() -> None:
    made, z = network(), clips(images=1)
    with torch.no_grad():
        packed = made(z, LEVELS, None, 1)[:, :, -1:]
        alone = made(z[:, :, -1:], LEVELS)
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale_and_shift", [False, True])
def test_frames_and_images_are_told_their_own_conditions(scale_and_shift: bool) -> None:
    made, z = network(classes=9, scale_and_shift=scale_and_shift), clips(images=2)
    labels = torch.tensor([1, 5, 2, 3, -1, 7])  # of two clips, two images of the first, two of the second
    with torch.no_grad():
        packed = made(z, LEVELS, Condition(labels), 2)
        frames = made(z[:, :, :4], LEVELS, Condition(labels[:2]))
        images = [made(z[:, :, 4 + i, None], LEVELS, Condition(labels[2 + i :: 2])) for i in range(2)]
    torch.testing.assert_close(packed, torch.cat([frames, *images], 2), rtol=1e-5, atol=1e-5)


def oracle_attention(module: TemporalAttention, x: Tensor, batch: int, allowed: Tensor) -> Tensor:
    """Eqs. 2 and 3 of Shaw et al. by loops over frames, where frame i sees frame j if `allowed[i, j]`."""
    frames, (_, channels, height, width) = len(x) // batch, x.shape
    heads, limit = channels // module.head_dim, module.relative_distance
    tokens = module.norm(x).reshape(batch, frames, channels, height * width).movedim(2, -1)  # [B, T, P, C]
    query, key = module.query_key(tokens).chunk(2, -1)
    split = (batch, frames, height * width, heads, module.head_dim)
    query, key, value = query.reshape(split), key.reshape(split), module.value(tokens).reshape(split)
    rows = []
    for i in range(frames):
        logits, values = [], []
        for j in range(frames):
            distance = max(-limit, min(limit, j - i)) + limit
            logit = (query[:, i] * (key[:, j] + module.relative_key[distance])).sum(-1)
            logits.append(logit / math.sqrt(module.head_dim) + (0.0 if allowed[i, j] else -torch.inf))
            values.append(value[:, j] + module.relative_value[distance])
        weights = torch.stack(logits).softmax(0)
        rows.append((weights[..., None] * torch.stack(values)).sum(0))
    attended = module.out(torch.stack(rows, 1).reshape(batch, frames, height * width, channels))
    return x + attended.movedim(-1, 2).reshape(x.shape)


def temporal_attention(channels: int = 16, distance: int = 3) -> TemporalAttention:
    torch.manual_seed(0)
    return TemporalAttention(channels, 8, distance)


@pytest.mark.parametrize("distance", [1, 3, 10])
def test_temporal_attention_is_that_of_shaw(distance: int) -> None:
    module, x = temporal_attention(distance=distance), torch.randn(2 * 5, 16, 2, 3)
    expected = oracle_attention(module, x, 2, torch.ones(5, 5, dtype=torch.bool))
    torch.testing.assert_close(module(x, 2, 0), expected, rtol=1e-5, atol=1e-5)


def test_packed_images_equal_masked_attention_and_so_do_the_gradients() -> None:
    module, batch, frames, images = temporal_attention(), 2, 4, 3
    allowed = torch.eye(frames + images, dtype=torch.bool)
    allowed[:frames, :frames] = True
    x = torch.randn(batch * (frames + images), 16, 2, 3)
    weight = torch.randn_like(x)
    gradients = []
    for function in (lambda v: module(v, batch, images), lambda v: oracle_attention(module, v, batch, allowed)):
        leaf = x.clone().requires_grad_()
        result = function(leaf)
        torch.testing.assert_close(result, module(x, batch, images), rtol=1e-5, atol=1e-5)
        gradients.append(torch.autograd.grad((result * weight).sum(), [leaf, *module.parameters()]))
    for packed, masked in zip(*gradients, strict=True):
        torch.testing.assert_close(packed, masked, rtol=1e-4, atol=1e-4)


def flops(module: nn.Module, *inputs: object) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(*inputs)
    return counter.get_total_flops()


def test_packed_images_cost_less_than_attention_over_all_of_them() -> None:
    module, x = temporal_attention(), torch.randn(24, 16, 4, 4)
    assert flops(module, x, 1, 8) < 0.75 * flops(module, x, 1, 0)


def test_heads_keep_their_channels_and_frames_their_places() -> None:
    # A value that tells head, channel and frame apart comes back where it was if each frame sees itself alone.
    module = temporal_attention()
    with torch.no_grad():
        module.relative_value.zero_()
        module.relative_key.zero_()
        module.relative_key[module.relative_distance] = 1e4
        for layer in (module.query_key, module.value, module.out):
            layer.weight.zero_()
            layer.bias.zero_()
        module.query_key.bias.fill_(1.0)
        module.value.weight.copy_(torch.eye(16))
        module.out.weight.copy_(torch.eye(16))
    x = torch.randn(2 * 5, 16, 2, 3)
    torch.testing.assert_close(module(x, 2, 0), x + module.norm(x))


def test_spatial_attention_equals_softmax_attention_within_a_frame() -> None:
    torch.manual_seed(0)
    module, x = SpatialAttention(16, 8), torch.randn(3, 16, 2, 4)
    tokens = module.norm(x).flatten(2).movedim(1, -1)
    query, key, value = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in module.qkv(tokens).chunk(3, -1))
    weights = (query @ key.transpose(-1, -2) / math.sqrt(8)).softmax(-1)
    attended = module.out((weights @ value).transpose(1, 2).flatten(2))
    expected = x + attended.movedim(-1, 1).reshape(x.shape)
    torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-5)


def test_attention_is_at_the_listed_resolutions_spatial_first() -> None:
    config = dataclasses.replace(TINY, resolution=32, multipliers=(1, 2, 2), attention_resolutions=(16,))
    made, sides, order = network(config), [], []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        order.append(type(module))
        sides.append(inputs[0].shape[-1])

    for module in made.modules():
        if isinstance(module, SpatialAttention | TemporalAttention):
            module.register_forward_hook(note)
    made(clips(config), LEVELS)
    assert sides == [16, 16, 8, 8, 16, 16, 16, 16]
    assert order == [SpatialAttention, TemporalAttention] * 4


def test_norms_are_of_single_frames_and_of_at_most_32_groups() -> None:
    norm = FrameNorm(256)
    assert (norm.num_groups, FrameNorm(128).num_groups, FrameNorm(8).num_groups) == (32, 32, 2)
    x = torch.randn(3, 256, 4, 4)
    x[1] *= 100
    means = norm(x).reshape(3, 32, -1)
    torch.testing.assert_close(means.mean(-1), torch.zeros(3, 32), rtol=0, atol=1e-5)
    torch.testing.assert_close(means.var(-1, correction=0), torch.ones(3, 32), rtol=0, atol=1e-3)


def test_an_untrained_network_predicts_zero_and_its_blocks_are_identity() -> None:
    torch.manual_seed(0)
    made = build_model(TINY)
    assert not made(clips(), LEVELS).any()
    block = next(m for m in made.modules() if isinstance(m, ResidualBlock) and isinstance(m.skip, nn.Identity))
    x = torch.randn(2, block.conv1.in_channels, 8, 8)
    assert torch.equal(block(x, torch.randn(2, 1, TINY.embedding_dim)), x)


def test_every_weight_has_a_part_in_the_output() -> None:
    made = network(classes=3, text_dim=6)
    condition = Condition(torch.tensor([0, 2, 1, 0]), torch.randn(4, 4, 6), torch.ones(4, 4, dtype=torch.bool))
    made(clips(images=1), LEVELS, condition, 1).square().sum().backward()
    idle = [name for name, p in made.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert idle == []


def test_layout_is_channels_last_from_entry_to_exit() -> None:
    made, wrong = network(), []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if not inputs[0].is_contiguous(memory_format=torch.channels_last):
            wrong.append(module)

    for module in made.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(look)
    made(clips(), LEVELS)
    assert not wrong


def test_log_snr_embedding_is_the_paper_familys_sinusoid() -> None:
    position = 1000 * np.arctan(np.exp(-0.5 * LEVELS.numpy())) / (np.pi / 2)
    frequency = 10000.0 ** (-np.arange(16) / 15)
    angle = position[:, None] * frequency
    expected = np.concatenate([np.sin(angle), np.cos(angle)], 1)
    seen: list[Tensor] = []
    embedding = Embedding(TINY)
    embedding.log_snr_mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    embedding(LEVELS, None)
    np.testing.assert_allclose(seen[0].numpy(), expected, atol=1e-4)
    assert sinusoid(torch.tensor([0.0]), 4).tolist() == [[0.0, 0.0, 1.0, 1.0]]


def test_embedding_is_float32_under_autocast_and_tells_all_levels_apart() -> None:
    levels = torch.linspace(-20, 20, 401, dtype=torch.float64)
    embedding = Embedding(TINY)
    with torch.autocast("cpu", torch.bfloat16):
        under = embedding(levels, None)
    assert under.dtype == torch.float32
    assert torch.equal(under, embedding(levels, None))
    assert (under.diff(dim=0).abs().amax(1) > 1e-5).all()


def test_labels_matter_and_an_unconditional_one_is_the_zero_embedding() -> None:
    made, z = network(classes=3), clips()

    def output(*labels: int) -> Tensor:
        with torch.no_grad():
            result: Tensor = made(z, LEVELS, Condition(torch.tensor(labels)))
        return result

    with torch.no_grad():
        free = made(z, LEVELS)
    assert torch.equal(output(-1, -1), free)
    assert not torch.allclose(output(0, 1), output(0, 2))
    torch.testing.assert_close(output(0, -1)[1], free[1])
    assert torch.equal(output(0, -1)[0], output(0, 1)[0])


def test_a_label_of_several_attributes_is_the_sum_of_their_vectors() -> None:
    config = dataclasses.replace(TINY, classes=30, class_factors=(2, 3, 5))
    embedding = Embedding(config)
    assert embedding.classes is not None
    assert embedding.condition_mlp is not None
    table = embedding.classes.weight
    levels = torch.zeros(30, dtype=torch.float64)
    expected = [
        table[first] + table[2 + second] + table[2 + 3 + third]
        for first in range(2)
        for second in range(3)
        for third in range(5)
    ]
    told = embedding(levels, Condition(torch.arange(30))) - embedding.log_snr_mlp(
        sinusoid(torch.full((30,), 500.0), embedding.sinusoid_dim)
    )
    torch.testing.assert_close(told, embedding.condition_mlp(torch.stack(expected)))


def test_attributes_must_multiply_to_the_classes() -> None:
    with pytest.raises(InputError, match=r"class_factors \[5, 6\] do not multiply to classes 240"):
        dataclasses.replace(TINY, classes=240, class_factors=(5, 6))
    assert Embedding(dataclasses.replace(TINY, class_factors=(5, 6))).classes is None  # classes=0 is enough


def test_text_matters_padding_does_not_and_no_text_is_unconditional() -> None:
    made, z = network(text_dim=6), clips()
    text = torch.randn(2, 5, 6)
    mask = torch.tensor([[True] * 3 + [False] * 2, [False] * 5])
    with torch.no_grad():
        given, free = made(z, LEVELS, Condition(None, text, mask)), made(z, LEVELS)
        padded = text.clone()
        padded[:, 3:] = 100.0
        torch.testing.assert_close(made(z, LEVELS, Condition(None, padded, mask)), given)
        short = made(z, LEVELS, Condition(None, text[:, :3], mask[:, :3]))
    torch.testing.assert_close(short, given)
    torch.testing.assert_close(given[1], free[1])
    assert not torch.allclose(given[0], free[0])


def test_conditions_are_dropped_joined_and_cut() -> None:
    text, mask = torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    condition = Condition(torch.tensor([4, 7]), text, mask)
    dropped = condition.dropped(torch.tensor([True, False]))
    assert dropped.labels is not None
    assert dropped.text_mask is not None
    assert dropped.labels.tolist() == [-1, 7]
    assert dropped.text_mask.any(1).tolist() == [False, True]
    joined = Condition.join(condition, condition.unconditional())
    assert joined.labels is not None
    assert joined.labels.tolist() == [4, 7, -1, -1]
    cut = joined.rows(slice(1, 3)).labels
    assert cut is not None
    assert cut.tolist() == [7, -1]
    assert Condition().unconditional().labels is None


def test_gradient_checkpointing_changes_no_bit_and_computes_stages_twice() -> None:
    # Dropout is on: the second pass must drop the same values.
    made, z = network(dropout=0.3).train(), clips()
    results, costs = [], []
    for checkpointing in (False, True):
        made.checkpointing = checkpointing
        made.zero_grad()
        torch.manual_seed(3)
        counter = FlopCounterMode(display=False)
        with counter:
            made(z, LEVELS).square().sum().backward()
        costs.append(counter.get_total_flops())
        results.append([p.grad.clone() for p in made.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert costs[1] > 1.2 * costs[0]


def test_torch_compile_finds_no_graph_break() -> None:
    made = network(classes=3)
    condition = Condition(torch.tensor([0, -1, 2, 1]))
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(clips(images=1), LEVELS, condition, 1), made(clips(images=1), LEVELS, condition, 1)
    )


def test_bfloat16_stays_near_float32_and_gives_float32() -> None:
    made, z = network(), clips()
    with torch.no_grad():
        exact = made(z, LEVELS)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = made(z, LEVELS)
    assert rounded.dtype == torch.float32
    error = (rounded - exact).norm() / exact.norm()
    assert 1e-4 < error < 0.02


def test_dropout_acts_in_training_alone() -> None:
    made, z = network(dropout=0.5), clips()
    with torch.no_grad():
        assert torch.equal(made(z, LEVELS), made(z, LEVELS))
        made.train()
        assert not torch.equal(made(z, LEVELS), made(z, LEVELS))


def test_scale_and_shift_is_another_way_to_let_the_embedding_in() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(8, 8, embedding_dim=4, dropout=0.0, scale_and_shift=True)
    nn.init.normal_(block.conv2.weight)
    x, embedding = torch.randn(4, 8, 4, 4), torch.randn(2, 1, 4)
    scale, shift = block.embedding(embedding[:, 0]).repeat_interleave(2, 0)[..., None, None].chunk(2, 1)
    h = block.norm2(block.conv1(nn.functional.silu(block.norm1(x)))) * (1 + scale) + shift
    torch.testing.assert_close(block(x, embedding), x + block.conv2(nn.functional.silu(h)))


def test_other_lengths_and_sizes_than_trained_for_go_through() -> None:
    made = network()
    assert made(torch.randn(1, 3, 7, 8, 12), LEVELS[:1]).shape == (1, 3, 7, 8, 12)
    check_size(TINY, 8, 12)
    with pytest.raises(InputError, match="divisible by its stride, 2"):
        check_size(TINY, 8, 11)


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="resolution 18 is not divisible by the network's stride 4"):
        build_model(TINY, resolution=18, multipliers=(1, 1, 1))
    with pytest.raises(InputError, match="12 channels are not divisible by head_dim 8"):
        build_model(TINY, base_channels=12, attention_resolutions=(16,))
    with pytest.raises(InputError, match="unknown setting 'base_chanels'; did you mean 'base_channels'"):
        build_model(TINY, base_chanels=12)


@pytest.mark.parametrize(
    ("preset", "millions"),
    [("kinetics600", 1100), ("bair", 140), ("ucf101", 1100)],
)
def test_presets_have_the_papers_size(preset: str, millions: int) -> None:
    # The paper says 1.1 billion of the Kinetics-600 model alone; the others follow from the same blocks.
    with torch.device("meta"):
        count = sum(p.numel() for p in build_model(preset).parameters())
    assert count == pytest.approx(millions * 1e6, rel=0.06)
