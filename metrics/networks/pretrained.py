"""The networks whose weights are downloaded, by the names of the catalogue of weights.

Each takes weights of the user's own instead; the signature tells the two apart by their digest.
"""

from collections.abc import Mapping

from torch import Tensor

from vdm_bench.metrics.networks.c3d import C3D
from vdm_bench.metrics.networks.i3d import I3D
from vdm_bench.metrics.networks.inception import Inception
from vdm_bench.metrics.weights import catalogue, load_weights

Weights = Mapping[str, Tensor] | None


def i3d_k400(weights: Weights = None) -> I3D:
    """I3D trained on Kinetics-400 from scratch: the network of the original FVD."""
    return _i3d("i3d-k400", weights)


def i3d_k400_imagenet(weights: Weights = None) -> I3D:
    """I3D trained on Kinetics-400 from ImageNet weights: another network, often taken for the first."""
    return _i3d("i3d-k400-imagenet", weights)


def i3d_k600(weights: Weights = None) -> I3D:
    """I3D trained on Kinetics-600 from scratch."""
    return _i3d("i3d-k600", weights)


def c3d_ucf101(weights: Weights = None) -> C3D:
    """C3D of TGAN2: trained on Sports-1M, fine-tuned on UCF101."""
    name = "c3d-ucf101"
    return C3D.from_chainer(weights or load_weights(name), name=name, licence=catalogue()[name].licence)


def inception_2015(weights: Weights = None) -> Inception:
    """Inception-v3 of 2015-12-05, the network of the original FID."""
    name = "inception-2015"
    given = weights or load_weights(name)
    return Inception.from_torch_fidelity(given, name=name, licence=catalogue()[name].licence)


def _i3d(name: str, weights: Weights) -> I3D:
    return I3D.from_tensorflow(weights or load_weights(name), name=name, licence=catalogue()[name].licence)
