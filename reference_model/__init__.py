"""The reference video diffusion model (Ho et al. 2022, arXiv 2204.03458).

Needs only torch, NumPy and safetensors; training also needs accelerate, captions need transformers. Public names
are imported on first use.
"""

from typing import TYPE_CHECKING

from vdm_bench.runtime.lazy import lazy

if TYPE_CHECKING:
    from vdm_bench.reference_model.config import ModelConfig as ModelConfig
    from vdm_bench.reference_model.config import SamplingConfig as SamplingConfig
    from vdm_bench.reference_model.config import TrainingConfig as TrainingConfig
    from vdm_bench.reference_model.embeddings import Condition as Condition
    from vdm_bench.reference_model.model import ReferenceModel as ReferenceModel
    from vdm_bench.reference_model.model import build_model as build_model
    from vdm_bench.reference_model.model import load_reference_model as load_reference_model
    from vdm_bench.reference_model.process import CosineSchedule as CosineSchedule
    from vdm_bench.reference_model.process import Prediction as Prediction
    from vdm_bench.reference_model.unet import VideoUNet as VideoUNet

_HOMES = {
    "Condition": "embeddings",
    "CosineSchedule": "process",
    "ModelConfig": "config",
    "Prediction": "process",
    "ReferenceModel": "model",
    "SamplingConfig": "config",
    "TrainingConfig": "config",
    "VideoUNet": "unet",
    "build_model": "model",
    "load_reference_model": "model",
}
__all__ = list(_HOMES)

__getattr__, __dir__ = lazy(__name__, _HOMES)
