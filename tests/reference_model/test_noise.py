"""Streams of noise: an example's numbers depend on its seed and on nothing else."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vdm_bench.errors import InputError
from vdm_bench.reference_model.noise import NoiseStream

GOLDEN = (
    (0.7109628319740295, 0.584316074848175, -1.2193288803100586, -0.34794482588768005),
    (-1.1797417402267456, 0.0012225746177136898, -0.058585479855537415, 0.8239068984985352),
)


@given(st.permutations([0, 1, 7, 2**31, 2**32 + 7, 2**63 - 1]), st.integers(1, 6))
def test_an_example_has_the_same_noise_in_any_batch_and_order(seeds: list[int], size: int) -> None:
    batch = NoiseStream(seeds[:size], (2, 3))
    first, second = batch.draw(), batch.draw()
    for i, seed in enumerate(seeds[:size]):
        alone = NoiseStream([seed], (2, 3))
        assert torch.equal(alone.draw()[0], first[i])
        assert torch.equal(alone.draw()[0], second[i])


def test_seeds_that_share_their_low_32_bits_have_different_noise() -> None:
    # A torch.Generator on the CPU keeps no more than these bits.
    a, b, c = NoiseStream([5, 5 + 2**32, 5 + 2**62], (1000,)).draw()
    for x, y in itertools.combinations((a, b, c), 2):
        assert abs(float(torch.corrcoef(torch.stack([x, y]))[0, 1])) < 0.15


def test_neighbouring_seeds_purposes_and_draws_are_uncorrelated() -> None:
    stream = NoiseStream([0, 1, 2], (10_000,))
    parts = [stream.draw(), stream.draw(), stream.fork(0).draw(), stream.fork(1).draw()]
    parts += [stream.fork(0).fork(1).draw(), stream.fork(1).fork(0).draw(), stream.fork(0).fork(0).draw()]
    rows = torch.cat(parts)
    correlations = torch.corrcoef(rows) - torch.eye(len(rows))
    assert float(correlations.abs().max()) < 0.05  # five standard deviations


def test_noise_is_standard_normal() -> None:
    values = NoiseStream(range(100), (10_000,)).draw().numpy().ravel()
    assert stats.kstest(values, "norm").pvalue > 0.001
    assert abs(values.mean()) < 0.005
    assert abs(values.var() - 1.0) < 0.007


def test_the_numbers_of_a_seed_stay_the_same_between_releases() -> None:
    # Published samples depend on them. A change here means that sampling with an old seed gives other clips.
    stream = NoiseStream([0, 2**63 - 1], (2,))
    assert stream.draw().flatten().tolist() == pytest.approx(GOLDEN[0], abs=1e-6)
    assert stream.fork(1).draw().flatten().tolist() == pytest.approx(GOLDEN[1], abs=1e-6)


def test_a_fork_starts_at_its_beginning_and_leaves_its_parent_alone() -> None:
    parent, other = NoiseStream([3, 4], (5,)), NoiseStream([3, 4], (5,))
    early = parent.fork(2).draw()
    other.draw()
    assert torch.equal(early, other.fork(2).draw())
    assert torch.equal(parent.fork(2).draw(), early)
    fresh = NoiseStream([3, 4], (5,))
    assert torch.equal(parent.draw(), fresh.draw())


def test_a_draw_may_have_another_shape_and_an_example_may_be_a_number() -> None:
    stream, twin = NoiseStream([1, 2], (6,)), NoiseStream([1, 2], (6,))
    assert torch.equal(stream.draw((2, 3)).flatten(1), twin.draw())
    assert NoiseStream([1, 2, 3], ()).draw().shape == (3,)
    assert NoiseStream([], (2, 2)).draw().shape == (0, 2, 2)


def test_the_numbers_do_not_depend_on_dtype_or_global_random_state() -> None:
    single = NoiseStream([1], (3,)).draw()
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - the global state is what must not matter
    before = torch.get_rng_state()
    double = NoiseStream([1], (3,), dtype=torch.float64).draw()
    assert torch.equal(torch.get_rng_state(), before)
    assert double.dtype == torch.float64
    assert torch.equal(double, single.double())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gets_the_numbers_of_the_cpu() -> None:
    found = NoiseStream([1, 2], (3, 4), device="cuda").draw()
    assert found.is_cuda
    assert torch.equal(found.cpu(), NoiseStream([1, 2], (3, 4)).draw())


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_named(seed: int) -> None:
    with pytest.raises(InputError, match=str(seed)):
        NoiseStream([0, seed], (2,))


@pytest.mark.parametrize("purpose", [-1, 2**32])
def test_a_purpose_out_of_range_is_named(purpose: int) -> None:
    # Beyond 32 bits two paths of purposes could be the same.
    with pytest.raises(InputError, match=str(purpose)):
        NoiseStream([0], (2,)).fork(purpose)
