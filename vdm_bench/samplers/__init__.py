"""Samplers by name: the baselines, the reference model, a diffusers pipeline, or a Python callable."""

from collections.abc import Callable
from dataclasses import dataclass

from vdm_bench.runtime.choose import check_known
from vdm_bench.runtime.plugins import installed
from vdm_bench.samplers.base import Sampler, SamplerSetup

REFERENCE, DIFFUSERS = "reference", "diffusers"
GROUP = "vdm_bench.samplers"  # of entry points, each a function, class or `Sampler` as for `module:object`


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
    described = baselines | {name: sampler.description for name, sampler in BUILT_IN.items()}
    others = {name: f"{entry.value}, of an installed package" for name, entry in installed(GROUP).items()}
    return described | {name: text for name, text in others.items() if name not in described}


def sampler_kind(spec: str) -> str:
    """Return the kind of a sampler, for the record."""
    from vdm_bench.samplers.baselines import BASELINES

    return spec if spec in BUILT_IN else "baseline" if spec in BASELINES else "callable"


def make_sampler(spec: str, setup: SamplerSetup) -> Sampler:
    """Build the sampler that the user named.

    Args:
        spec: name of a baseline, `reference`, `diffusers` or an installed sampler; or `module:object`.
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
    from vdm_bench.samplers.baselines import BASELINES, make_baseline

    if spec in BASELINES:
        return make_baseline(spec, setup)
    from vdm_bench.samplers.callable import load_installed

    return load_installed(spec, installed(GROUP)[spec], setup.options)


def check_name(spec: str) -> None:
    """Refuse an unknown sampler name before anything is loaded.

    Raises:
        InputError: there is no sampler of that name.
    """
    if ":" not in spec:
        hint = "`vdm-bench list samplers` shows them, and a callable of your own is written module:object"
        check_known(spec, describe_samplers(), "sampler", hint)
