"""A diffusers video pipeline as a sampler: captions or context frames in, clips out.

    vdm-bench run text-video --data-root videos --sampler diffusers --option pipeline=FOLDER

`capabilities` derives what a pipeline can make from its class and its configuration, `options` reads the user's
options, `loading` finds and loads the weights, `sampler` makes clips.
"""

from vdm_bench.samplers.diffusers.sampler import DiffusersSampler, make_diffusers

__all__ = ["DiffusersSampler", "make_diffusers"]
