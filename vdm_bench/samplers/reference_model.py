"""The reference model as a sampler.

Batches have a fixed size and the last one is padded, so that the rounding of a clip does not depend on how many
clips a request asks for. On a CPU a batch is one clip, computed on one thread, and several batches run in
parallel: there a clip is bit-identical for any number of threads and any other clips in the request.
"""

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_bench.errors import InputError
from vdm_bench.metrics.precision import arithmetic
from vdm_bench.reference_model.config import SamplingConfig, settings_from_text
from vdm_bench.reference_model.embeddings import Condition
from vdm_bench.reference_model.model import ReferenceModel, checkpoint_path, load_reference_model, source_of
from vdm_bench.reference_model.text.encoding import TextEmbeddings, load_text
from vdm_bench.runtime.threads import Stopped, mapped
from vdm_bench.samplers.base import Sampler, SampleRequest, SamplerSetup

DEFAULT_CHECKPOINT = "shapes"

Advance = Callable[[int], None]
"""Called with the number of network evaluations just completed."""

# Clips per forward pass. One on a CPU, where passes run in parallel, one thread each, and a clip's rounding
# depends on no other. On a GPU enough to keep it busy, at the cost of that guarantee.
_CPU_BATCH, _GPU_BATCH = 1, 16


class ReferenceSampler(Sampler):
    """A trained reference model with one sampling configuration.

    Args:
        model: of any checkpoint.
        sampling: the configuration.
        text: embeddings of all captions that will be requested, or a file of embeddings, or a folder with a BERT.
            None if there are no captions.
        source: checkpoint of the model, for records.

    Raises:
        InputError: the configuration does not fit the model.
    """

    def __init__(
        self,
        model: ReferenceModel,
        sampling: SamplingConfig,
        *,
        text: TextEmbeddings | str | None = None,
        source: str = "",
    ) -> None:
        self._model, self._text, self._source = model, text, source
        if model.config.channels != 3:
            raise InputError(
                f"the model makes clips of {model.config.channels} channels, not 3 (RGB); use another"
            )
        if sampling.labels == "random":
            model.draw_labels(())  # raises if the model has no classes
        self._side = model.side(sampling)
        self._batch = sampling.batch or (_CPU_BATCH if model.device.type == "cpu" else _GPU_BATCH)
        self._sampling = dataclasses.replace(sampling, overlap=model.overlap(sampling), batch=self._batch)

    @property
    def recorded_settings(self) -> dict[str, str | int | float | bool | None]:
        """The checkpoint and every setting, for the record."""
        return {"checkpoint": self._source, **self._sampling.described}

    def evaluations(self, request: SampleRequest) -> int:
        """Return the number of network evaluations for one clip; guidance evaluates a batch twice as large.

        Raises:
            InputError: the request does not fit the model or the settings.
        """
        self.check(request)
        count = 0 if request.context is None else request.context.shape[1]
        return self._model.evaluations(self._sampling, length=request.frames, context_frames=count)

    def sample(self, request: SampleRequest, advance: Advance | None = None) -> NDArray[np.uint8]:
        """Generate the clips of a request.

        Args:
            request: for N clips.
            advance: called after each network evaluation with the number of clips in the batch, without padding.
                It may be called from several threads, one at a time.

        Returns:
            uint8 [N, T, H, W, 3], RGB, starting with the unchanged context frames.

        Raises:
            InputError: the request does not fit the model or the settings.
        """
        self.check(request)
        request = self.labelled(request)
        text = self._embeddings(request)
        starts = range(0, len(request), self._batch)
        stop, lock = threading.Event(), threading.Lock()

        def work(start: int) -> NDArray[np.uint8]:
            rows = list(range(start, min(start + self._batch, len(request))))

            def evaluated() -> None:
                if stop.is_set():
                    raise Stopped
                if advance is not None:
                    with lock:
                        advance(len(rows))

            full = rows + rows[-1:] * (self._batch - len(rows))
            # The settings are per thread.
            with arithmetic("fp32", self._model.device):
                return self._clips(request, text, full, evaluated)[: len(rows)]

        with arithmetic("fp32", self._model.device):
            return np.concatenate(mapped(work, starts, self._model.device, stop))

    def sample_with_progress(self, request: SampleRequest, advance: Advance) -> NDArray[np.uint8]:
        """Generate the clips of a request, as `sample` does, reporting each network evaluation."""
        return self.sample(request, advance)

    def check(self, request: SampleRequest) -> None:
        """Refuse a request that does not fit the model or the settings.

        Raises:
            InputError: it does not fit.
        """
        config, side = self._model.config, self._side
        if (request.height, request.width) != (side, side):
            raise InputError(
                f"clips of {request.height}x{request.width} pixels are asked for, and the model makes "
                f"{side}x{side}; give a checkpoint trained at that size, or the setting resolution"
            )
        if request.frames < config.frames:
            raise InputError(
                f"clips of {request.frames} frames are asked for, and the model makes {config.frames} or more; "
                "give a checkpoint trained at that length"
            )
        given = 0 if request.context is None else request.context.shape[1]
        if given >= request.frames:
            raise InputError(
                f"the context has {given} frames, and the clips are to have {request.frames}; give fewer frames, "
                "or ask for longer clips"
            )
        self._check_conditions(request)

    def _check_conditions(self, request: SampleRequest) -> None:
        config, weight = self._model.config, self._sampling.guidance_weight
        if request.labels is not None:
            self._model.check_labels(request.labels)
        if request.captions is not None and not config.text_dim:
            raise InputError("captions are given, but the model was trained without text; leave them out")
        if request.captions is not None and self._text is None:
            raise InputError(
                "captions need a text encoder: give the folder of a BERT's weights, or a file of embeddings"
            )
        asked = weight not in (0.0, self._model.sampling.guidance_weight)
        if asked and request.captions is None and request.labels is None and self._sampling.labels == "none":
            raise InputError(
                f"guidance_weight {weight:g} acts on labels or captions, and there are none; give some "
                "(--label random, or the option labels=random, draws them), or leave the guidance out"
            )

    def labelled(self, request: SampleRequest) -> SampleRequest:
        """Return the request, with labels drawn from the clips' seeds if it has none and `labels` is `random`."""
        if request.labels is not None or self._sampling.labels == "none":
            return request
        return dataclasses.replace(request, labels=self._model.draw_labels(request.seeds).numpy())

    def _embeddings(self, request: SampleRequest) -> TextEmbeddings | None:
        if request.captions is None or isinstance(self._text, TextEmbeddings):
            return self._text if isinstance(self._text, TextEmbeddings) else None
        return load_text(request.captions, self._text, text_dim=self._model.config.text_dim)

    def _condition(
        self, request: SampleRequest, text: TextEmbeddings | None, rows: Sequence[int]
    ) -> Condition | None:
        if request.labels is None and request.captions is None:
            return None
        labels = None if request.labels is None else torch.from_numpy(request.labels[list(rows)])
        if text is None or request.captions is None:
            return Condition(labels)
        # Padded to the maximum length, so that the rounding of a caption does not depend on the others.
        captions = [request.captions[row] for row in rows]
        embeddings, mask = text.batch(captions, length=text.encoder.max_tokens)
        return Condition(labels, embeddings, mask)

    def _clips(
        self,
        request: SampleRequest,
        text: TextEmbeddings | None,
        rows: Sequence[int],
        evaluated: Callable[[], None],
    ) -> NDArray[np.uint8]:
        """Generate one batch: uint8 [B, T, H, W, 3]."""
        clips = self._model.sample(
            [request.seeds[row] for row in rows],
            condition=self._condition(request, text, rows),
            context=None if request.context is None else torch.from_numpy(request.context[list(rows)]),
            length=request.frames,
            sampling=self._sampling,
            on_evaluation=evaluated,
        )
        return clips.cpu().numpy()


def make_reference(setup: SamplerSetup) -> ReferenceSampler:
    """Build the sampler of `--sampler reference` from its options.

    These are the settings of `SamplingConfig`, and `checkpoint` (a path, or the name of a packaged model; default
    `shapes`), `preset` (refuse a model of any other preset), `text` (see `ReferenceSampler`) and `device`.

    Raises:
        InputError: an option is unknown or out of range, or the checkpoint cannot be used.
    """
    options = dict(setup.options)
    source = checkpoint_path(options.pop("checkpoint", DEFAULT_CHECKPOINT))
    preset, text = options.pop("preset", None), options.pop("text", None)
    device = options.pop("device", setup.device)
    chosen = settings_from_text(options, _OTHERS)
    model = load_reference_model(source, preset=preset, device=device)
    return ReferenceSampler(model, model.sampling.override(chosen), text=text, source=source_of(source))


def check_options(options: Mapping[str, str]) -> None:
    """Refuse options of `--sampler reference` that are unknown or out of range, without loading a model.

    Raises:
        InputError: an option is unknown or out of range.
    """
    settings = {name: text for name, text in options.items() if name not in _OTHERS}
    SamplingConfig().override(settings_from_text(settings, _OTHERS))


_OTHERS = ("checkpoint", "preset", "text", "device")  # options that are not settings of `SamplingConfig`
