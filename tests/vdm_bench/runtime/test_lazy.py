"""Public names that are imported when they are first used, and what is proposed for unknown ones."""

import subprocess
import sys
from types import ModuleType

import pytest

import vdm_bench
import vdm_bench.leaderboards
import vdm_bench.metrics
import vdm_bench.metrics.networks
import vdm_bench.metrics.weights
import vdm_bench.reference_model


@pytest.mark.parametrize(
    ("module", "name", "proposal"),
    [
        (vdm_bench, "scor", "; did you mean 'score'?"),
        (vdm_bench, "load_run", "; did you mean 'load_runs'?"),
        (vdm_bench, "compute_config", "; did you mean 'ComputeConfig'?"),
        (vdm_bench, "reproductoin", "; did you mean 'reproduction'?"),
        (vdm_bench, "frechet_vidoe_distance", "; did you mean 'vdm_bench.metrics.FrechetVideoDistance'?"),
        (vdm_bench, "kernel_distance", "; did you mean 'vdm_bench.metrics.kernel_distance'?"),
        (vdm_bench.metrics, "FrechetDistance", "; did you mean 'frechet_distance'?"),
        (vdm_bench.metrics, "moment", "; did you mean 'Moments'?"),
        (vdm_bench.metrics.weights, "load_weight", "; did you mean 'load_weights'?"),
        (vdm_bench.metrics.networks, "i3D", "; did you mean 'I3D'?"),
        (vdm_bench.reference_model, "VideoUnet", "; did you mean 'VideoUNet'?"),
        (vdm_bench, "zebra", ""),
        (vdm_bench, "_scor", ""),
    ],
)
def test_an_unknown_name_gets_the_nearest(module: ModuleType, name: str, proposal: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(module, name)
    assert str(caught.value) == f"module {module.__name__!r} has no attribute {name!r}{proposal}"


def test_a_module_that_is_not_imported_is_named_as_one() -> None:
    code = "import vdm_bench\ntry: vdm_bench.cli\nexcept AttributeError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "module 'vdm_bench' has no attribute 'cli'; import it first: import vdm_bench.cli\n"


def test_a_proposal_loads_no_library() -> None:
    code = (
        "import sys, vdm_bench\n"
        "assert not hasattr(vdm_bench, 'frechet_vidoe_distance')\n"
        "print([name for name in ('torch', 'numpy', 'pandas', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_known_names_and_completion_are_as_before() -> None:
    from vdm_bench.metrics.frechet import frechet_distance

    assert vdm_bench.metrics.frechet_distance is frechet_distance
    assert {"score", "run", "load_runs"} <= set(dir(vdm_bench))
