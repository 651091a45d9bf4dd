"""Training of the model."""

from typing import TYPE_CHECKING

from vdm_bench.runtime.lazy import lazy

if TYPE_CHECKING:
    from vdm_bench.reference_model.training.loop import Hooks as Hooks
    from vdm_bench.reference_model.training.loop import TrainingOptions as TrainingOptions
    from vdm_bench.reference_model.training.loop import train as train

_HOMES = {
    "Hooks": "loop",
    "TrainingOptions": "loop",
    "train": "loop",
}
__all__ = list(_HOMES)

__getattr__, __dir__ = lazy(__name__, _HOMES)
