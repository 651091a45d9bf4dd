"""Samplers by name: the baselines, the reference model, a diffusers pipeline, or a Python callable."""

from collections.abc import Callable
from dataclasses import dataclass

from vdm_bench.runtime.choose import check_known
from vdm_bench.samplers.base import Sampler, SamplerSetup

REFERENCE, DIFFUSERS = "reference", "diffusers"


@dataclass(frozen=True)
class BuiltIn:
    """A named sampler that is not a baseline.

    Attributes:
        make: imports its module and builds the sampler.
        description: for `vdm-bench list samplers`.
    """

    make: Callable[[SamplerSetup], Sampler]
    description: str


def _make_reference(setup: SamplerSetup) -> Sampler:
    from vdm_bench.samplers.reference_model import make_reference

    return make_reference(setup)


def _make_diffusers(setup: SamplerSetup) -> Sampler:
    from vdm_bench.samplers.diffusers import make_diffusers

    return make_diffusers(setup)


BUILT_IN = {
    REFERENCE: BuiltIn(
        _make_reference,
        "the reference model: the one of the package, or of a checkpoint (--option checkpoint=FILE); "
        "`vdm-bench sample` makes single clips",
    ),
    DIFFUSERS: BuiltIn(
        _make_diffusers,
        "a diffusers video pipeline (--option pipeline=FOLDER_OR_NAME; extra `diffusers`); takes captions or "
        "context frames",
    ),
}


def describe_samplers() -> dict[str, str]:
    """Return the description of each named sampler."""
    from vdm_bench.samplers.baselines import BASELINES

    baselines = {name: (function.__doc__ or "").strip() for name, function in BASELINES.items()}
    return baselines | {name: sampler.description for name, sampler in BUILT_IN.items()}


def sampler_kind(spec: str) -> str:
    """Return the kind of a sampler, for the record."""
    return "callable" if ":" in spec else spec if spec in BUILT_IN else "baseline"


def make_sampler(spec: str, setup: SamplerSetup) -> Sampler:
    """Build the sampler that the user named.

    Args:
        spec: name of a baseline, `reference`, `diffusers`, or `module:object`.
        setup: condition clips, options and device.

    Raises:
        InputError: there is no sampler of that name, or it cannot be built.
    """
    check_name(spec)
    if ":" in spec:
        from vdm_bench.samplers.callable import load_callable

        return load_callable(spec, setup.options)
    if spec in BUILT_IN:
        return BUILT_IN[spec].make(setup)
    from vdm_bench.samplers.baselines import make_baseline

    return make_baseline(spec, setup)


def check_name(spec: str) -> None:
    """Refuse an unknown sampler name before anything is loaded.

    Raises:
        InputError: there is no sampler of that name.
    """
    if ":" not in spec:
        hint = "`vdm-bench list samplers` shows them, and a callable of your own is written module:object"
        check_known(spec, describe_samplers(), "sampler", hint)
