"""Captions as text embeddings."""

from typing import TYPE_CHECKING

from vdm_bench.runtime.lazy import lazy

if TYPE_CHECKING:
    from vdm_bench.reference_model.text.bert import load_encoder as load_encoder
    from vdm_bench.reference_model.text.encoding import encode as encode
    from vdm_bench.reference_model.text.encoding import load_text as load_text

_HOMES = {
    "encode": "encoding",
    "load_encoder": "bert",
    "load_text": "encoding",
}
__all__ = list(_HOMES)

__getattr__, __dir__ = lazy(__name__, _HOMES)
