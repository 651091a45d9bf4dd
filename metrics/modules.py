"""Metric objects for training loops: subclasses of `torchmetrics.Metric`.

They accumulate clips with `update`, synchronise over torch.distributed in `compute`, and work as attributes of a
module or in a MetricCollection. Their states are moments and sums, which stay float64 even if the module around
them is cast. The feature network is not a submodule: it is neither trained, nor saved, nor cast.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from vdm_bench.errors import InputError
from vdm_bench.metrics.extraction import extract_features
from vdm_bench.metrics.frechet import frechet_distance
from vdm_bench.metrics.inception import inception_score
from vdm_bench.metrics.kernel import kernel_distance
from vdm_bench.metrics.moments import ClassSums, Moments, merge_all
from vdm_bench.metrics.networks import load_network
from vdm_bench.metrics.networks.base import FeatureNetwork, NetworkSettings
from vdm_bench.metrics.pixels import to_pixels

__all__ = ["FrechetVideoDistance", "KernelVideoDistance", "Layer", "VideoInceptionScore"]

DEFAULT_NETWORK = "i3d-k400"

SIDES = ("real", "generated")
NO_CLIPS, DIFFERENT = 0, -1  # in place of a number of frames


class Layer:
    """A layer of a network that torch.nn.Module does not treat as a submodule.

    Copies share the network, which moves to the device of the last call.

    Args:
        network: a name, or the network itself.
        layer: name of the layer; None takes the first of `preferred` that the network has.
        preferred: names of layers.

    Raises:
        InputError: there is no such network or layer.
    """

    def __init__(self, network: str | FeatureNetwork, layer: str | None, preferred: Sequence[str] = ()) -> None:
        network = load_network(network) if isinstance(network, str) else network
        spec = network.spec
        found = [name for name in ([layer] if layer else preferred) if name in spec.layers]
        if not found:
            wish = f"no layer {layer!r}" if layer else "no default layer"
            raise InputError(f"{spec.name} has {wish}; choose layer= one of {', '.join(spec.layers)}")
        settings = NetworkSettings(layers=(found[0],), precision=spec.precision, compiled=spec.compiled)
        self.name = found[0]
        self.network = network.configured(settings)
        self.dimension = spec.layers[self.name]

    @torch.no_grad()
    def __call__(self, clips: Tensor, device: torch.device) -> NDArray[np.float32]:
        """Compute the features of a batch.

        Args:
            clips: as for `as_pixels`.
            device: where the network computes.

        Returns:
            float32 [N, d].

        Raises:
            InputError: clips that `as_pixels` or the network does not accept, or features that are not finite.
        """
        if self.network.device != device:
            self.network = self.network.to(device)
        return extract_features(self.network, as_pixels(clips))[self.name]

    def __deepcopy__(self, memo: object) -> Self:
        return self


def as_pixels(clips: Tensor) -> Tensor:
    """Convert the clips of a training loop to uint8 [N, T, H, W, 3].

    Args:
        clips: uint8 [N, T, H, W, 3], returned as they are; or float [N, 3, T, H, W] in [-1, 1], of which x
            becomes round((x + 1) * 127.5).

    Raises:
        InputError: another dtype or shape, or values outside [-1, 1].
    """
    if not isinstance(clips, Tensor):
        found = type(clips).__name__
    elif clips.dtype == torch.uint8 and clips.ndim == 5 and clips.shape[-1] == 3:
        return clips
    elif clips.is_floating_point() and clips.ndim == 5 and clips.shape[1] == 3:
        return to_pixels(clips, -1.0, 1.0).movedim(1, -1).contiguous()
    else:
        found = f"{clips.dtype} {'x'.join(map(str, clips.shape))}"
    raise InputError(f"clips are uint8 [N, T, H, W, 3] or float [N, 3, T, H, W] in [-1, 1]; these are {found}")


class _VideoMetric(Metric):
    """Base of the metrics: the network's layer, states that keep their dtype, a `forward` without a value."""

    is_differentiable = False
    full_state_update = False

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        # With a cache, a rank without new clips would skip the synchronisation, and the other ranks would hang.
        super().__init__(**{"compute_with_cache": False, **kwargs})
        self._layer = layer
        self._lowest: dict[str, float] = {}  # value of each side's float clips, in this process
        self._warned = False

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Do the same as `update`; return None, because a batch has no score of its own.

        For a distance, a batch holds clips of one side only; for an inception score, a few clips score far too
        low.
        """
        self.update(*args, **kwargs)

    def reset(self) -> None:
        """Forget all clips."""
        self._lowest = {}
        super().reset()

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        """Move the states between devices, but keep their dtype in casts (`half`, `to(dtype)`, `set_dtype`)."""

        def moved(state: Tensor) -> Tensor:
            result = fn(state)
            return result if result.dtype == state.dtype else state.to(result.device)

        return super()._apply(moved, exclude_state)

    def _features(self, clips: Tensor, side: str) -> NDArray[np.float32]:
        """Compute the features [N, d] of a batch, and store its lowest pixel value for `_warn_of_range`."""
        features = self._layer(clips, self.device)
        if clips.is_floating_point() and len(features):
            lowest = float(clips.detach().amin())
            self._lowest[side] = min(lowest, self._lowest.get(side, lowest))
        return features

    def _warn_of_range(self) -> None:
        """Warn once if the float clips of a side look like [0, 1]: none since `reset` has a negative value."""
        doubtful = [side for side, lowest in self._lowest.items() if lowest >= 0]
        if doubtful and not self._warned:
            self._warned = True
            warnings.warn(
                f"{type(self).__name__}: no value of the {' and '.join(doubtful)} clips is below 0; float clips "
                "lie in [-1, 1], so give those in [0, 1] as 2 * x - 1",
                stacklevel=4,  # where compute is called
            )

    def _check_counts(self, **counts: int) -> None:
        for side, count in counts.items():
            if count < 2:
                are = "is" if count == 1 else "are"
                raise self._refusal(
                    f"{type(self).__name__} needs at least 2 {side} clips; there {are} {count}; "
                    "call update with more before compute"
                )

    def _refusal(self, message: str) -> InputError:
        # Otherwise torchmetrics would stay synchronised, and count the clips of all ranks again.
        if self._is_synced:
            self.unsync()
        return InputError(message)

    def _value(self, compute: Callable[[], float]) -> Tensor:
        """Return the value of `compute` as a float64 scalar on the metric's device."""
        try:
            return torch.tensor(compute(), dtype=torch.float64, device=self.device)
        except InputError as error:  # numbers too large to compute with
            raise self._refusal(str(error)) from error


class _Distance(_VideoMetric):
    """A metric of real and generated clips; `reset` may keep the real ones."""

    higher_is_better = False
    _real_state: str
    real_frames: Tensor
    generated_frames: Tensor

    def __init__(
        self, network: str | FeatureNetwork, layer: str | None, reset_real_features: bool, **kwargs: Any
    ) -> None:
        super().__init__(Layer(network, layer, ("features", "logits")), **kwargs)
        self.reset_real_features = reset_real_features
        for side in SIDES:
            self.add_state(f"{side}_frames", torch.tensor(NO_CLIPS), dist_reduce_fx=_common_frames)

    def _features(self, clips: Tensor, side: str) -> NDArray[np.float32]:
        """Compute the features [N, d] of a batch, whose clips must have as many frames as all others."""
        lowest = dict(self._lowest)
        features = super()._features(clips, side)
        frames = clips.shape[1 if clips.dtype == torch.uint8 else 2]
        known = {int(getattr(self, f"{other}_frames")) for other in SIDES} - {NO_CLIPS}
        if len(features) and known - {frames}:
            self._lowest = lowest
            raise InputError(
                f"real and generated clips must be of one length; these have {frames} frames, those before "
                f"{max(known)}; cut them to one length"
            )
        if len(features):
            setattr(self, f"{side}_frames", torch.tensor(frames, device=self.device))
        return features

    def _check_frames(self) -> None:
        """Check that clips have the same length on all ranks."""
        if int(_common_frames(torch.stack([self.real_frames, self.generated_frames]))) == DIFFERENT:
            raise self._refusal(
                "real and generated clips must be of one length, on all ranks; cut them to one length"
            )

    def reset(self) -> None:
        """Forget the generated clips, and the real ones unless `reset_real_features` is False."""
        if self._is_synced:
            self.unsync()
        kept = {name: getattr(self, name) for name in (self._real_state, "real_frames")}
        lowest = {side: value for side, value in self._lowest.items() if side == "real"}
        if not self.reset_real_features and isinstance(kept[self._real_state], list):
            setattr(self, self._real_state, [])  # torchmetrics would clear the kept list in place
        super().reset()
        if not self.reset_real_features:
            self._lowest = lowest
            for name, value in kept.items():
                setattr(self, name, value)


class FrechetVideoDistance(_Distance):
    """The Frechet video distance between real and generated clips, in squared feature units; lower is better.

    The value is `frechet_distance` of the features of all clips since `reset`, with covariances over N - 1. It is
    comparable only at the same numbers of clips.

    States: for each side one float64 [d + 1, d + 1], the scatter matrix bordered by the mean, with the count in
    the corner; and the number of frames, which all clips share. `Moments.merge` merges ranks in their order, and
    each may have seen a different number of clips. States are in a `state_dict` only after `persistent(True)`.

    Args:
        network: a name listed by `vdm-bench list networks`, or the network itself.
        layer: layer of the network; by default its `features` or, without those, its `logits`.
        reset_real_features: whether `reset` also forgets the real clips. If False, add them only once.
        kwargs: of `torchmetrics.Metric`.

    Raises:
        InputError: no such network or layer. In `update`: clips that the network does not accept, or of another
            length than those before, or NaN in the features. In `compute`: fewer than 2 clips on a side, or clips
            of different lengths on different ranks.

    Warns:
        UserWarning: in `compute`, once, if no float clip of a side has a value below 0, as in the range [0, 1].
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
            real: whether these are real clips.
        """
        features = self._features(clips, "real" if real else "generated")
        if not len(features):
            return
        name = "real_moments" if real else "generated_moments"
        batch = _packed(Moments.from_features(features)).to(self.device)
        setattr(self, name, _merged(torch.stack([getattr(self, name), batch])))

    def compute(self) -> Tensor:
        """Return the distance: a float64 scalar on the metric's device."""
        real, generated = _unpacked(self.real_moments), _unpacked(self.generated_moments)
        self._check_counts(real=real.count, generated=generated.count)
        self._check_frames()
        self._warn_of_range()
        return self._value(lambda: frechet_distance(real, generated))


class VideoInceptionScore(_VideoMetric):
    """The inception score of generated clips in one split; higher is better.

    A finite sample lowers it, so it is comparable only at the same number of clips. States, summed over the
    ranks: `count`, `probabilities` [classes] and `negentropy`, as in `ClassSums`.

    Args:
        network: a name listed by `vdm-bench list networks`, or the network itself.
        layer: layer of the network that holds logits.
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
        logits = self._features(clips, "generated")
        if not len(logits):
            return
        sums = ClassSums.from_logits(logits)
        self.count = self.count + sums.count
        self.probabilities = self.probabilities + torch.from_numpy(sums.probabilities).to(self.device)
        self.negentropy = self.negentropy + sums.negentropy

    def compute(self) -> Tensor:
        """Return the score, in [1, classes]: a float64 scalar on the metric's device."""
        count = int(self.count)
        self._check_counts(generated=count)
        self._warn_of_range()
        sums = ClassSums(count, self.probabilities.cpu().numpy(), float(self.negentropy))
        return self._value(lambda: inception_score(sums))


class KernelVideoDistance(_Distance):
    """The kernel video distance (squared MMD) between real and generated clips; lower is better.

    States: the float32 features of all clips, which are gathered from all ranks; and the number of frames.

    Args:
        network: a name listed by `vdm-bench list networks`, or the network itself.
        layer: layer of the network; by default its `features` or, without those, its `logits`.
        degree: degree of the polynomial kernel, as in `kernel_distance`.
        coef0: constant of the polynomial kernel.
        estimator: `unbiased`, or `biased`, which is never negative.
        reset_real_features: whether `reset` also forgets the real clips. If False, add them only once.
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
        features = torch.from_numpy(self._features(clips, "real" if real else "generated")).to(self.device)
        (self.real_features if real else self.generated_features).append(features)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the features of all ranks; `compute` calls it."""
        for features in (self.real_features, self.generated_features):
            if not features:  # a rank without clips would send a vector where the others send matrices, and hang
                features.append(torch.empty(0, self._layer.dimension, device=self.device))
        super().sync(*args, **kwargs)

    def compute(self) -> Tensor:
        """Return the distance: a float64 scalar on the metric's device."""
        real, generated = (dim_zero_cat(x).cpu().numpy() for x in (self.real_features, self.generated_features))
        self._check_counts(real=len(real), generated=len(generated))
        self._check_frames()
        self._warn_of_range()
        return self._value(
            lambda: kernel_distance(
                real, generated, degree=self.degree, coef0=self.coef0, estimator=self.estimator
            )
        )


def _common_frames(frames: Tensor) -> Tensor:
    """Return the one number of frames in [R], ignoring `NO_CLIPS`, or `DIFFERENT` if there are several."""
    lengths = set(frames.tolist()) - {NO_CLIPS}
    common = lengths.pop() if len(lengths) == 1 else DIFFERENT if lengths else NO_CLIPS
    return torch.tensor(common, dtype=frames.dtype, device=frames.device)


def _packed(moments: Moments) -> Tensor:
    """Pack moments into one tensor, float64 [d + 1, d + 1], which is synchronised as a whole."""
    mean = moments.mean[:, None]
    return torch.from_numpy(np.block([[moments.scatter, mean], [mean.T, np.array([[moments.count]])]]))


def _unpacked(state: Tensor) -> Moments:
    matrix = state.cpu().numpy()
    return Moments(int(matrix[-1, -1]), matrix[:-1, -1], matrix[:-1, :-1])


def _merged(states: Tensor) -> Tensor:
    """Merge packed moments [R, d + 1, d + 1] in their order, skipping those without clips."""
    parts = [moments for moments in map(_unpacked, states) if moments.count]
    return _packed(merge_all(parts)).to(states.device) if parts else states[0]
