"""Finding and loading a pipeline: what is wrong with it shows before its weights are read.

The class and the configuration of each part are in small files, which are read first, from a folder or from the
Hub. Weights are read from safetensors files only, and code that comes with a pipeline is refused.
"""

import contextlib
import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vdm_bench.errors import InputError
from vdm_bench.runtime.choose import check_known
from vdm_bench.runtime.input_files import is_of_the_machine, machine_error, parse_json, read_file, refuse_file
from vdm_bench.runtime.printable import printable
from vdm_bench.samplers.diffusers.capabilities import Capabilities, Config, capabilities_of
from vdm_bench.samplers.diffusers.options import Options

_INDEX, _CONFIG = "model_index.json", "config.json"
_CONFIGURED = ("transformer", "transformer_2", "unet", "vae", "motion_adapter")  # parts that decide what is made
_LIBRARIES = ("diffusers", "transformers")
_NEEDS_PACKAGE = "the sampler diffusers needs the package; pip install 'vdm-bench[diffusers]'"

_LONGEST_REASON = 300  # characters of what a library says
_LONGEST_NAME = 80
_LOGGER = logging.getLogger("vdm_bench")


@dataclass(frozen=True)
class FoundPipeline:
    """A pipeline whose configuration was read, and not its weights.

    Attributes:
        kind: its class.
        can: what it can make.
    """

    kind: type
    can: Capabilities


def find_pipeline(options: Options) -> FoundPipeline:
    """Read the configuration of a pipeline.

    Raises:
        InputError: diffusers is not installed, the pipeline is missing or damaged, its class is unknown or makes
            no videos, or a part comes with its own code or without safetensors weights.
    """
    try:
        import diffusers
        import transformers  # noqa: F401 - the pipelines import it
    except ImportError as error:
        raise InputError(_NEEDS_PACKAGE) from error
    source = options.pipeline
    index = _read_config(options, "", _INDEX)
    kind = _class_of(options, index.get("_class_name"))
    parts = {name: entry for name, entry in index.items() if _is_part(entry)}
    for name, (library, _) in parts.items():
        # The name of a module of diffusers' own pipelines is that of a library, too.
        if library not in _LIBRARIES and not hasattr(diffusers.pipelines, str(library)):
            raise InputError(f"the part {name} of {source} comes with code of its own, which is not run")
        _require_weights(Path(source), name)
    if options.scheduler is not None or options.scheduler_arguments:
        _check_scheduler(options, parts)
    configs = {name: _read_config(options, name, _CONFIG) for name in _CONFIGURED if name in parts}
    vae = _without_weights(parts["vae"][1], configs["vae"]) if "vae" in parts else None
    can = capabilities_of(kind, configs, vae)
    if not can.makes_videos:
        raise InputError(
            f"{source} is a {can.kind}, which makes no videos from captions or context frames; give a video "
            "pipeline, or the option class=NAME to load it as one"
        )
    return FoundPipeline(kind, can)


def _is_part(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and entry[0] is not None


def _class_of(options: Options, saved: object) -> type:
    """Return the class that a pipeline is loaded as: that of the option, or the one it was saved as."""
    import diffusers

    known = [key for key in dir(diffusers) if key.endswith("Pipeline")]
    name = options.class_name
    if name is not None:
        check_known(name, known, "pipeline class")
    elif isinstance(saved, str) and saved in known:
        name = saved
    else:
        raise InputError(
            f"{options.pipeline} is a {printable(saved, _LONGEST_NAME)}, which diffusers {diffusers.__version__} "
            "does not have; upgrade diffusers, or give the option class=NAME"
        )
    with quiet():
        found = getattr(diffusers, name)
    if not (isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)):
        raise InputError(f"{name} is not available here; install the packages that diffusers needs for it")
    _require_ftfy(found)
    return found


def _require_ftfy(kind: type) -> None:
    """Refuse a pipeline that cleans captions with a package that is not installed."""
    module = sys.modules[kind.__module__]
    names = getattr(getattr(module, "basic_clean", None), "__code__", _require_ftfy.__code__).co_names
    if "ftfy" in names and "is_ftfy_available" not in names and not hasattr(module, "ftfy"):
        raise InputError(f"a {kind.__name__} needs the package ftfy; pip install ftfy")


def _read_config(options: Options, part: str, name: str) -> dict[str, Any]:
    """Read a configuration from a folder, or from the Hub."""
    folder = Path(options.pipeline)
    path = folder / part / name
    if not folder.is_dir():
        path = _download(options, f"{part}/{name}" if part else name)
    elif not path.is_file():
        raise InputError(
            f"{path} is not there, so {folder} is not a pipeline that diffusers has saved; give the folder with "
            f"{_INDEX}"
        )
    content = parse_json(read_file(path, refuse_file), path, "download or save the pipeline again")
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a configuration; download or save the pipeline again")
    return content


def _download(options: Options, name: str) -> Path:
    from huggingface_hub import hf_hub_download

    source = options.pipeline
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise InputError(f"there is no folder {source}; give a folder, or a name on the Hub such as owner/name")
    try:
        with quiet():
            return Path(hf_hub_download(source, name, revision=options.revision))
    except Exception as error:
        reason = printable(_first_line(error), _LONGEST_REASON)
        raise InputError(f"{name} of the pipeline {source} cannot be downloaded ({reason})") from error


def _require_weights(folder: Path, part: str) -> None:
    """Refuse a part of a local pipeline whose weights are in another form than safetensors."""
    place = folder / part
    if not place.is_dir() or any(place.glob("*.safetensors")):
        return
    pickled = [path.name for pattern in ("*.bin", "*.pt", "*.ckpt", "*.msgpack") for path in place.glob(pattern)]
    if pickled:
        raise InputError(
            f"{place / min(pickled)} is not a safetensors file, and nothing else is loaded; save the pipeline "
            "again with save_pretrained"
        )


def _without_weights(name: str, config: Config) -> object | None:
    """Make a part that has attributes and no weights; None if that is not possible."""
    import diffusers
    import torch

    with quiet(), contextlib.suppress(Exception), torch.device("meta"):
        made: object = getattr(diffusers, name).from_config(config)
        return made
    return None


def load_pipeline(options: Options, found: FoundPipeline, device: str) -> Any:
    """Load the weights of a pipeline, and set it up as the options say.

    Raises:
        InputError: the weights, the LoRA or the scheduler cannot be loaded.
    """
    source = options.pipeline
    with quiet(), _saying(f"the pipeline {source} cannot be loaded"):
        load: Callable[..., Any] = found.kind.from_pretrained  # type: ignore[attr-defined]
        pipeline = load(
            source,
            dtype=_dtypes(options),
            use_safetensors=True,
            trust_remote_code=False,
            revision=options.revision,
            variant=options.variant,
            device_map=options.device_map,
        )
    if options.scheduler is not None or options.scheduler_arguments:
        pipeline.scheduler = _scheduler(options, pipeline.scheduler)
    if options.lora is not None:
        _add_lora(pipeline, options.lora, options.lora_scale)
    _set_up_vae(pipeline, options)
    with quiet(), _saying(f"the pipeline {source} cannot be placed on {device}"):
        if options.offload == "model":
            pipeline.enable_model_cpu_offload(device=device)
        elif options.offload == "sequential":
            pipeline.enable_sequential_cpu_offload(device=device)
        elif options.device_map is None:
            pipeline = pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _dtypes(options: Options) -> Any:
    import torch

    named = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    dtype = named[options.dtype]
    return dtype if options.vae_dtype is None else {"default": dtype, "vae": named[options.vae_dtype]}


def _check_scheduler(options: Options, parts: Config) -> None:
    """Refuse a scheduler that diffusers does not have, and settings that it does not take.

    Args:
        options: name the scheduler and its settings.
        parts: library and class of each part of the pipeline.

    Raises:
        InputError: it has no such scheduler or setting.
    """
    import diffusers

    if "scheduler" not in parts:
        raise InputError(f"{options.pipeline} has no scheduler; leave out the scheduler's options")
    name = options.scheduler or parts["scheduler"][1]
    check_known(name, [key for key in dir(diffusers) if key.endswith("Scheduler")], "scheduler")
    settings = inspect.signature(getattr(diffusers, name).__init__).parameters
    for key in options.scheduler_arguments:
        check_known(key, list(settings)[1:], f"{name} setting")


def _scheduler(options: Options, current: Any) -> Any:
    import diffusers

    kind = type(current) if options.scheduler is None else getattr(diffusers, options.scheduler)
    with quiet(), _saying(f"the scheduler {kind.__name__} cannot be made"):
        return kind.from_config(current.config, **options.scheduler_arguments)


def _add_lora(pipeline: Any, lora: str, scale: float) -> None:
    kind = type(pipeline).__name__
    if not hasattr(pipeline, "load_lora_weights"):
        raise InputError(f"a {kind} takes no LoRA; leave out the option lora")
    path = Path(lora)
    place = {"weight_name": path.name} if path.is_file() else {}
    with quiet(), _saying(f"the LoRA {lora} cannot be loaded"):
        pipeline.load_lora_weights(
            str(path.parent) if place else lora, adapter_name="lora", use_safetensors=True, **place
        )
        pipeline.set_adapters("lora", scale)


def check_files(options: Options) -> None:
    """Refuse a LoRA that is not a safetensors file or a folder with one; a Hub name is checked when it is loaded.

    Raises:
        InputError: it is not.
    """
    if options.lora is None:
        return
    path = Path(options.lora)
    if path.is_dir() and not any(path.glob("*.safetensors")):
        raise InputError(f"the folder {path} of the option lora holds no safetensors file")
    if path.suffix and path.suffix != ".safetensors":
        raise InputError(f"the option lora={path} must be a safetensors file")
    if path.suffix and not path.is_file():
        raise InputError(f"there is no file {path}; give the option lora a safetensors file")


def _set_up_vae(pipeline: Any, options: Options) -> None:
    for wanted, name in ((options.vae_tiling, "tiling"), (options.vae_slicing, "slicing")):
        enable = getattr(getattr(pipeline, "vae", None), f"enable_{name}", None)
        if wanted and enable is None:
            raise InputError(
                f"the autoencoder of a {type(pipeline).__name__} has no {name}; leave out vae_{name}"
            )
        if wanted and enable is not None:
            enable()


@contextlib.contextmanager
def _saying(what: str) -> Iterator[None]:
    """Turn an error of a library into one sentence.

    Raises:
        InputError: `what`, and the library's reason.
        MachineError: the machine is at fault, such as for lack of memory.
    """
    try:
        yield
    except Exception as error:
        if is_of_the_machine(error):
            raise machine_error(what, error) from error
        raise InputError(f"{what}: {printable(_first_line(error), _LONGEST_REASON)}") from error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep libraries silent, unless this package's logger is set to DEBUG."""
    if _LOGGER.isEnabledFor(logging.DEBUG):
        yield
        return
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    levels = [logger.level for logger in loggers]
    shown = [library.is_progress_bar_enabled() for library in (of_diffusers, of_transformers)]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    of_diffusers.disable_progress_bar()
    of_transformers.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for library, was_shown in zip((of_diffusers, of_transformers), shown, strict=True):
            if was_shown:
                library.enable_progress_bar()
