"""Metric objects for training loops: torchmetrics' classes over the networks and statistics of this package.

They accumulate with `update`, synchronise over torch.distributed when `compute` is called, and live as
attributes of a module or in a MetricCollection. States: moments and sums in float64, whatever the module around
them is cast to. The network is no part of them: it is neither trained, nor saved, nor cast.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from vdm_bench.errors import InputError
from vdm_bench.metrics.frechet import frechet_distance
from vdm_bench.metrics.inception import inception_score
from vdm_bench.metrics.kernel import kernel_distance
from vdm_bench.metrics.layer import Layer
from vdm_bench.metrics.moments import ClassSums, Moments, merge_all
from vdm_bench.metrics.networks.base import FeatureNetwork

DEFAULT_NETWORK = "i3d-k400"


class _VideoMetric(Metric):
    """What the metrics share: the network's layer, states that keep their dtype, a `forward` without a value."""

    is_differentiable = False
    full_state_update = False

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        # A rank that has seen nothing since the last compute would answer from its cache, and the others hang.
        super().__init__(**{"compute_with_cache": False, **kwargs})
        self._layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Do the same as `update`, and give None: a batch has no score of its own.

        A batch holds one side of a distance, and an inception score of a few clips is far too low.
        """
        self.update(*args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        """Let casts (`half`, `to(dtype)`, `set_dtype`) leave the states alone, and moves move them."""

        def moved(state: Tensor) -> Tensor:
            result = fn(state)
            return result if result.dtype == state.dtype else state.to(result.device)

        return super()._apply(moved, exclude_state)

    def _check_counts(self, **counts: int) -> None:
        for side, count in counts.items():
            if count < 2:
                # torchmetrics would stay in the synchronised state, and count all ranks' clips again.
                if self._is_synced:
                    self.unsync()
                are = "is" if count == 1 else "are"
                raise InputError(
                    f"{type(self).__name__} needs at least 2 {side} clips; there {are} {count}; "
                    "call update with more before compute"
                )

    def _tensor(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64, device=self.device)


class _Distance(_VideoMetric):
    """A metric of two sides, of which the real one may outlive `reset`."""

    higher_is_better = False
    _real_state: str

    def __init__(
        self, network: str | FeatureNetwork, layer: str | None, reset_real_features: bool, **kwargs: Any
    ) -> None:
        super().__init__(Layer(network, layer, ("features", "logits")), **kwargs)
        self.reset_real_features = reset_real_features

    def reset(self) -> None:
        """Forget the generated clips, and the real ones unless `reset_real_features` is False."""
        if self._is_synced:
            self.unsync()
        real = getattr(self, self._real_state)
        if not self.reset_real_features and isinstance(real, list):
            setattr(self, self._real_state, [])  # a list is emptied in place
        super().reset()
        if not self.reset_real_features:
            setattr(self, self._real_state, real)


class FrechetVideoDistance(_Distance):
    """The Frechet video distance of generated to real clips, in squared units of the features; lower is better.

    The value is `frechet_distance` of the features of all clips since `reset`: covariances over N - 1. It is
    comparable only at the same numbers of clips.

    States: for each side one float64 [d + 1, d + 1], the scatter matrix bordered by the mean, the count in the
    corner; ranks are merged in their order by `Moments.merge`, however many clips each has seen. Not part of a
    `state_dict` unless `persistent(True)` was called.

    Args:
        network: a name, as `vdm-bench list networks` shows them, or the network itself.
        layer: of the network; its `features` or else its `logits`, if left out.
        reset_real_features: whether `reset` forgets the real clips, too. If not, give them once.
        kwargs: of `torchmetrics.Metric`.

    Raises:
        InputError: no such network or layer; in `update`: clips the network cannot take, or NaN in its features;
            in `compute`: fewer than 2 clips on a side.
    """

    _real_state = "real_moments"
    real_moments: Tensor
    generated_moments: Tensor

    def __init__(
        self,
        network: str | FeatureNetwork = DEFAULT_NETWORK,
        *,
        layer: str | None = None,
        reset_real_features: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, layer, reset_real_features, **kwargs)
        size = self._layer.dimension + 1
        for name in ("real_moments", "generated_moments"):
            empty = torch.zeros(size, size, dtype=torch.float64)
            self.add_state(name, empty, dist_reduce_fx=_merged)

    def update(self, clips: Tensor, real: bool) -> None:
        """Add a batch.

        Args:
            clips: uint8 [N, T, H, W, 3], RGB, or float [N, 3, T, H, W] in [-1, 1]; on any device.
            real: whether they are real.
        """
        features = self._layer(clips, self.device)
        if not len(features):
            return
        name = "real_moments" if real else "generated_moments"
        batch = _packed(Moments.from_features(features)).to(self.device)
        setattr(self, name, _merged(torch.stack([getattr(self, name), batch])))

    def compute(self) -> Tensor:
        """Give the distance: a float64 scalar on the metric's device."""
        real, generated = _unpacked(self.real_moments), _unpacked(self.generated_moments)
        self._check_counts(real=real.count, generated=generated.count)
        return self._tensor(frechet_distance(real, generated))


class VideoInceptionScore(_VideoMetric):
    """The inception score of generated clips in one split; higher is better.

    A finite sample pulls it down, so it is comparable only at the same number of clips. States, summed over the
    ranks: `count`, `probabilities` [classes] and `negentropy`, as in `ClassSums`.

    Args:
        network: a name, as `vdm-bench list networks` shows them, or the network itself.
        layer: of the network, holding logits.
        kwargs: of `torchmetrics.Metric`.

    Raises:
        InputError: as for `FrechetVideoDistance`.
    """

    higher_is_better = True
    count: Tensor
    probabilities: Tensor
    negentropy: Tensor

    def __init__(
        self, network: str | FeatureNetwork = DEFAULT_NETWORK, *, layer: str = "logits", **kwargs: Any
    ) -> None:
        super().__init__(Layer(network, layer, ()), **kwargs)
        for name, shape in (("count", ()), ("probabilities", (self._layer.dimension,)), ("negentropy", ())):
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, clips: Tensor) -> None:
        """Add a batch: uint8 [N, T, H, W, 3], RGB, or float [N, 3, T, H, W] in [-1, 1]; on any device."""
        logits = self._layer(clips, self.device)
        if not len(logits):
            return
        sums = ClassSums.from_logits(logits)
        self.count = self.count + sums.count
        self.probabilities = self.probabilities + torch.from_numpy(sums.probabilities).to(self.device)
        self.negentropy = self.negentropy + sums.negentropy

    def compute(self) -> Tensor:
        """Give the score, in [1, classes]: a float64 scalar on the metric's device."""
        count = int(self.count)
        self._check_counts(generated=count)
        return self._tensor(
            inception_score(ClassSums(count, self.probabilities.cpu().numpy(), float(self.negentropy)))
        )


class KernelVideoDistance(_Distance):
    """The kernel video distance (a squared maximum mean discrepancy) of generated to real clips; lower is better.

    States: the features of all clips, float32, which are gathered from all ranks.

    Args:
        network: a name, as `vdm-bench list networks` shows them, or the network itself.
        layer: of the network; its `features` or else its `logits`, if left out.
        degree: of the polynomial kernel, as in `kernel_distance`.
        coef0: its constant.
        estimator: `unbiased`, or `biased`, which is never negative.
        reset_real_features: whether `reset` forgets the real clips, too. If not, give them once.
        kwargs: of `torchmetrics.Metric`.

    Raises:
        InputError: as for `FrechetVideoDistance`.
    """

    _real_state = "real_features"
    real_features: list[Tensor]
    generated_features: list[Tensor]

    def __init__(
        self,
        network: str | FeatureNetwork = DEFAULT_NETWORK,
        *,
        layer: str | None = None,
        degree: int = 3,
        coef0: float = 1.0,
        estimator: Literal["unbiased", "biased"] = "unbiased",
        reset_real_features: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, layer, reset_real_features, **kwargs)
        self.degree, self.coef0 = degree, coef0
        self.estimator: Literal["unbiased", "biased"] = estimator
        for name in ("real_features", "generated_features"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, clips: Tensor, real: bool) -> None:
        """Add a batch, as in `FrechetVideoDistance.update`."""
        features = torch.from_numpy(self._layer(clips, self.device)).to(self.device)
        (self.real_features if real else self.generated_features).append(features)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the features of all ranks, as `compute` does by itself."""
        for features in (self.real_features, self.generated_features):
            if not features:  # for a rank without clips torchmetrics would send a vector among matrices, and hang
                features.append(torch.empty(0, self._layer.dimension, device=self.device))
        super().sync(*args, **kwargs)

    def compute(self) -> Tensor:
        """Give the distance: a float64 scalar on the metric's device."""
        real, generated = (dim_zero_cat(x).cpu().numpy() for x in (self.real_features, self.generated_features))
        self._check_counts(real=len(real), generated=len(generated))
        distance = kernel_distance(
            real, generated, degree=self.degree, coef0=self.coef0, estimator=self.estimator
        )
        return self._tensor(distance)


def _packed(moments: Moments) -> Tensor:
    """Write moments as one float64 [d + 1, d + 1], so that they travel together."""
    mean = moments.mean[:, None]
    return torch.from_numpy(np.block([[moments.scatter, mean], [mean.T, np.array([[moments.count]])]]))


def _unpacked(state: Tensor) -> Moments:
    matrix = state.cpu().numpy()
    return Moments(int(matrix[-1, -1]), matrix[:-1, -1], matrix[:-1, :-1])


def _merged(states: Tensor) -> Tensor:
    """Merge packed moments [R, d + 1, d + 1] in their order; those of no clips change nothing."""
    parts = [moments for moments in map(_unpacked, states) if moments.count]
    return _packed(merge_all(parts)).to(states.device) if parts else states[0]
