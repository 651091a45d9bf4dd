"""The networks with pretrained weights, by their names in the catalogue of weights.

Each also accepts the user's own weights; their digest in the signature distinguishes the two.
"""

from collections.abc import Mapping

from torch import Tensor

from vdm_bench.metrics.networks.c3d import C3D
from vdm_bench.metrics.networks.i3d import I3D
from vdm_bench.metrics.networks.inception import Inception
from vdm_bench.metrics.weights import catalogue, load_weights

Weights = Mapping[str, Tensor] | None


def i3d_k400(weights: Weights = None) -> I3D:
    """Return I3D trained on Kinetics-400 from scratch: the network of the original FVD."""
    return _i3d("i3d-k400", weights)


def i3d_k400_imagenet(weights: Weights = None) -> I3D:
    """Return I3D trained on Kinetics-400 from ImageNet weights: not the network of the original FVD."""
    return _i3d("i3d-k400-imagenet", weights)


def i3d_k600(weights: Weights = None) -> I3D:
    """Return I3D trained on Kinetics-600 from scratch."""
    return _i3d("i3d-k600", weights)


def c3d_ucf101(weights: Weights = None) -> C3D:
    """Return the C3D of TGAN2: trained on Sports-1M, fine-tuned on UCF101."""
    name = "c3d-ucf101"
    return C3D.from_chainer(weights or load_weights(name), name=name, licence=catalogue()[name].licence)


def inception_2015(weights: Weights = None) -> Inception:
    """Return the Inception-v3 of 2015-12-05, the network of the original FID."""
    name = "inception-2015"
    state = weights or load_weights(name)
    return Inception.from_torch_fidelity(state, name=name, licence=catalogue()[name].licence)


def _i3d(name: str, weights: Weights) -> I3D:
    return I3D.from_tensorflow(weights or load_weights(name), name=name, licence=catalogue()[name].licence)
