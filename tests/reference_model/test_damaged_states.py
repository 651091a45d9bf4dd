"""A training state with an impossible field is refused in one sentence that names the file and the way out."""

import re
from pathlib import Path

import pytest
import torch

from vdm_bench.errors import DamagedError
from vdm_bench.reference_model.training.state import TrainingProgress, read_state, write_state


@pytest.mark.parametrize("seconds", [10**400, -(10**400)], ids=["huge", "negative"])
def test_seconds_that_no_float_can_hold_are_refused(tmp_path: Path, seconds: int) -> None:
    write_state(tmp_path, {"weight": torch.zeros(2)}, TrainingProgress(step=3, seconds=seconds))
    with pytest.raises(DamagedError) as caught:
        read_state(tmp_path, {"weight": (2,)})
    assert re.fullmatch(
        r".*step-000000003\.safetensors is damaged: its field 'seconds' is too large a number; "
        "remove it, and training starts from the beginning",
        str(caught.value),
    )


def test_seconds_that_are_a_whole_number_are_read(tmp_path: Path) -> None:
    write_state(tmp_path, {"weight": torch.zeros(2)}, TrainingProgress(step=3, seconds=12))
    state = read_state(tmp_path, {"weight": (2,)})
    assert state is not None
    assert state[1] == TrainingProgress(3, 12.0)
