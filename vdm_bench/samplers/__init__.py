"""Samplers: the baselines, the reference model, a pipeline of diffusers, or any Python callable."""

from vdm_bench.runtime.choose import check_known
from vdm_bench.samplers.base import Sampler, SamplerSetup

REFERENCE = "reference"  # the name of the reference model among samplers
DIFFUSERS = "diffusers"  # and of a video pipeline of diffusers


def sampler_kind(spec: str) -> str:
    """Return the kind of a sampler, as records have it."""
    return "callable" if ":" in spec else spec if spec in (REFERENCE, DIFFUSERS) else "baseline"


def make_sampler(spec: str, setup: SamplerSetup) -> Sampler:
    """Make a sampler from what the user wrote.

    Args:
        spec: name of a baseline, `reference`, `diffusers`, or `module:object`.
        setup: what the harness offers it.

    Raises:
        InputError: no sampler is called so, or it cannot be made.
    """
    from vdm_bench.samplers.baselines import make_baseline

    check_name(spec)
    if ":" in spec:
        from vdm_bench.samplers.callable import load_callable

        return load_callable(spec, setup.options)
    if spec == REFERENCE:
        from vdm_bench.samplers.reference import make_reference

        return make_reference(setup)
    if spec == DIFFUSERS:
        from vdm_bench.samplers.diffusers import make_diffusers

        return make_diffusers(setup)
    return make_baseline(spec, setup)


def check_name(spec: str) -> None:
    """Refuse a name that no sampler has, before anything is loaded.

    Raises:
        InputError: no sampler has it.
    """
    from vdm_bench.samplers.baselines import BASELINES

    if ":" not in spec:
        hint = "`vdm-bench list samplers` shows them, and a callable of your own is written MODULE:OBJECT"
        check_known(spec, [*BASELINES, REFERENCE, DIFFUSERS], "sampler", hint)
