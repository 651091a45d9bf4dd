"""The same check as a test, with the fixture `vdm_check` of vdm-bench."""

from pathlib import Path

import vdm_bench
from vdm_bench.pytest_plugin import VdmCheck


def test_the_model_is_no_worse(vdm_check: VdmCheck, tmp_path: Path) -> None:
    """Run `pytest --vdm-update-baseline` the first time, and after an intended change."""
    vdm_bench.run("shapes-unconditional", sampler="my_model:sample", limit=256, name="my-model", out=tmp_path)
    vdm_check(tmp_path, baseline="vdm-bench-baseline.json", fail_on=["embedded/fvd:5%", "embedded/is:5%"])
