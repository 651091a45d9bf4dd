"""The original I3D graph, run by TensorFlow: a second backend of the recipe `fvd`, to verify the port.

TensorFlow does everything from uint8 clips to logits: the resize, the scaling and DeepMind's published graph
`deepmind/i3d-kinetics-400/1`, as in google-research's `frechet_video_distance`. It shares no code with the port
in `i3d`, but has the same signature, because it is the same metric.

A SavedModel is a program. Only the published graph, identified by its digest, is ever run.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from vdm_bench.errors import InputError
from vdm_bench.metrics.networks.base import NetworkSettings, NetworkSpec, Preprocessing, check_clips
from vdm_bench.metrics.weights.digest import content_digest, git_blob_id

HANDLE = "https://tfhub.dev/deepmind/i3d-kinetics-400/1"
PAGE = "https://www.kaggle.com/models/deepmind/i3d-kinetics/tensorFlow1/400/1"
GRAPH_BLOB_ID = "3aeeb9841cec2c5a41b15897b52e8f306e750247"  # of the module's saved_model.pb
FILES = ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")

INPUT = "input_frames:0"
LOGITS = "RGB/inception_i3d/Mean:0"
SIZE = 224
CPU = "/CPU:0"


@dataclass(frozen=True)
class OriginalSpec(NetworkSpec):
    """The spec of the original graph: that of the port, but its features are cached separately."""

    @property
    def cache_key(self) -> str:
        """Everything that features depend on, to the last bit; the note names the version of TensorFlow."""
        return f"{super().cache_key} {self.note}"


class OriginalI3D:
    """The original graph as a feature network with one layer, `logits` [N, 400]; it computes on the CPU.

    Create one with `load`.

    Args:
        module: the module as tensorflow-hub loads it.
        tensorflow: the package, which is imported only when it is needed.
    """

    def __init__(self, module: Any, tensorflow: Any) -> None:
        self._module = module
        self._tf = tensorflow
        self._network = module.prune(INPUT, [LOGITS])
        digest = content_digest({v.name.removesuffix(":0"): v.numpy() for v in module.variables})
        self.spec = OriginalSpec(
            name="i3d-k400",
            layers={"logits": 400},
            min_frames=9,  # with fewer frames the graph silently returns NaN
            batch_size=8,
            preprocessing=Preprocessing(SIZE, "tf1-bilinear"),
            weights_digest=digest[:8],
            licence="Apache-2.0",
            note=f"computed by the original graph in TensorFlow {tensorflow.__version__}",
            padding="same",
        )

    @classmethod
    def load(cls, folder: Path | None = None) -> Self:
        """Load the module.

        Args:
            folder: folder of the unpacked module, with `saved_model.pb` and `variables/`. None uses
                tensorflow-hub's cache (the folder TFHUB_CACHE_DIR) and downloads the module into it if needed.

        Raises:
            InputError: TensorFlow is not installed, or the module cannot be downloaded or read, or is another
                one.
        """
        tensorflow, hub = _import_tensorflow()
        folder = _resolve(hub) if folder is None else folder
        _check_module(folder)
        try:
            with tensorflow.device(CPU):
                module = hub.load(str(folder), tags=[])
                return cls(module, tensorflow)
        except tensorflow.errors.OpError as error:
            reason = [line for line in error.message.splitlines() if line and not line.startswith("\t")][-1]
            raise InputError(
                f"the weights in {folder / 'variables'} cannot be read ({reason}); unpack the module again"
            ) from error

    @property
    def device(self) -> torch.device:
        """Where the network computes: the CPU."""
        return torch.device("cpu")

    def to(self, device: torch.device) -> Self:
        """Stay on the CPU.

        Raises:
            InputError: another device is asked for.
        """
        if device.type != "cpu":
            raise InputError(f"the original graph computes on the CPU, not on {device}; choose --device cpu")
        return self

    def configured(self, settings: NetworkSettings) -> Self:
        """Return the network itself: it has only the settings of `fvd`.

        Raises:
            InputError: other settings.
        """
        rules = self.spec.preprocessing
        own = (
            settings.layers in ((), ("logits",))
            and settings.rule in (None, rules.rule)
            and settings.aspect in (None, rules.aspect)
            and settings.padding in (None, self.spec.padding)
            and settings.epsilon is None
            and settings.precision == self.spec.precision
            and not settings.compiled
        )
        if not own:
            raise InputError(
                "the original graph computes fvd only (logits of frames stretched by TF1's bilinear rule, SAME "
                "padding, fp32, not compiled); choose that metric and those settings, or the backend torch"
            )
        return self

    def __call__(self, clips: Tensor) -> dict[str, Tensor]:
        """Compute the logits of uint8 clips [N, T, H, W, 3], T >= 9: float32 [N, 400].

        Raises:
            InputError: wrong dtype or shape, or too few frames.
        """
        return {"logits": self._run(self._network, clips)[0]}

    def tensors(self, clips: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Compute any tensors of the graph, to compare a port layer by layer.

        Args:
            clips: uint8 [N, T, H, W, 3], T >= 9.
            names: as in the graph, such as `RGB/inception_i3d/Mixed_4b/concat:0`.

        Returns:
            By name; feature maps are float32 [N, T', H', W', C].

        Raises:
            InputError: a tensor that the graph does not have, or clips that it does not accept.
        """
        try:
            pruned = self._module.prune(INPUT, list(names))
        except (KeyError, ValueError) as error:
            raise InputError(f"the original graph has no such tensor: {error}") from error
        return dict(zip(names, self._run(pruned, clips), strict=True))

    def frames(self, clips: Tensor) -> Tensor:
        """Compute the input of the graph for uint8 clips [N, T, H, W, 3], T >= 9.

        Returns:
            float32 [N, T, 224, 224, 3] in [-1, 1].

        Raises:
            InputError: clips that it does not accept.
        """
        return torch.tensor(self._frames(clips).numpy())

    def _frames(self, clips: Tensor) -> Any:
        check_clips(clips, self.spec)
        count, length, height, width, channels = clips.shape
        tf = self._tf
        with tf.device(CPU):
            resized = tf.raw_ops.ResizeBilinear(
                images=clips.cpu().numpy().reshape(count * length, height, width, channels),
                size=(SIZE, SIZE),
                align_corners=False,
                half_pixel_centers=False,
            )
            return tf.reshape(2.0 * resized / 255.0 - 1.0, (count, length, SIZE, SIZE, channels))

    def _run(self, pruned: Any, clips: Tensor) -> list[Tensor]:
        with self._tf.device(CPU):
            return [torch.tensor(value.numpy()) for value in pruned(self._frames(clips))]


def _import_tensorflow() -> tuple[Any, Any]:
    """Import tensorflow and tensorflow_hub without their log output, and limit GPU memory and threads.

    Raises:
        InputError: one of them is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with _quiet():
            tensorflow, hub = import_module("tensorflow"), import_module("tensorflow_hub")
            gpus = tensorflow.config.list_physical_devices("GPU")
    except ImportError as error:
        raise InputError(
            f"the original graph needs TensorFlow ({error}): pip install 'vdm-bench[tensorflow]'"
        ) from error
    # TensorFlow may already be running in this process; then its settings cannot be changed.
    with contextlib.suppress(RuntimeError):
        for gpu in gpus:
            tensorflow.config.experimental.set_memory_growth(gpu, True)
        tensorflow.config.threading.set_intra_op_parallelism_threads(torch.get_num_threads())
        tensorflow.config.threading.set_inter_op_parallelism_threads(torch.get_num_threads())
    return tensorflow, hub


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings and standard error: TensorFlow's libraries write to it before they read the log level."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _resolve(hub: Any) -> Path:
    """Find or download the module."""
    try:
        return Path(hub.resolve(HANDLE))
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"tensorflow-hub cannot download {HANDLE} ({error}); get it from {PAGE} "
            "and give the folder in which it is unpacked: --backend tensorflow:FOLDER"
        ) from error


def _check_module(folder: Path) -> None:
    """Check that a folder is the published module, before any of it is run."""
    for name in FILES:
        if not (folder / name).is_file():
            raise InputError(
                f"{folder} has no {name}; give the folder of the unpacked module deepmind/i3d-kinetics-400/1, "
                "which holds saved_model.pb and variables/"
            )
    found = git_blob_id(folder / FILES[0])
    if found != GRAPH_BLOB_ID:
        raise InputError(
            f"{folder / FILES[0]} is not the graph of deepmind/i3d-kinetics-400/1 (git blob id {found[:8]}, "
            f"not {GRAPH_BLOB_ID[:8]}) and is not run; give an untouched copy of that module"
        )
