"""What a training run is: the settings that its result depends on, kept in `config.json`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vdm_bench.errors import InputError
from vdm_bench.reference_model.config import Preset
from vdm_bench.reference_model.training.state import states
from vdm_bench.runtime.locks import holds_others
from vdm_bench.runtime.plan import Plan, as_json, unlike

CONFIG = "config.json"


@dataclass(frozen=True)
class RunConfig:
    """All that a run's weights depend on.

    Attributes:
        preset: the model and its training.
        seed: of all random numbers.
        precision: of the network.
        data: name of the data.
        init: name of the checkpoint that it started from, if any.
    """

    preset: Preset
    seed: int
    precision: str
    data: str
    init: str | None = None

    def table(self) -> dict[str, Any]:
        """Give the settings by dotted name, as JSON keeps them."""
        flat: dict[str, Any] = {name: getattr(self, name) for name in ("seed", "precision", "data", "init")}
        for section in ("model", "training"):
            values = dataclasses.asdict(getattr(self.preset, section))
            flat |= {f"{section}.{key}": list(v) if isinstance(v, tuple) else v for key, v in values.items()}
        return flat


def claim(out: Path, config: RunConfig) -> None:
    """Make `out` the folder of this run, or find that it is already; the number of steps may have grown.

    Raises:
        InputError: it holds a run with other settings, or something else; or its settings are damaged.
    """
    kept = Plan(out / CONFIG, "a run", way_out="restore it, or choose another --out")
    wanted = as_json({"preset": config.preset.name, **config.table()})
    if not kept.path.exists() and out.exists() and (not out.is_dir() or holds_others(out)):
        raise InputError(f"{out} is no run of `vdm-bench train` and not empty; choose another --out")
    if not states(out):  # nothing that could be gone on from: settings may still change
        kept.write(wanted)
        return
    found = kept.read()
    if found is None:
        raise InputError(f"{kept.path} is not there, and {out} holds a run; {kept.way_out}")
    # Under a constant learning rate a longer run is the same run, gone on with.
    longer = config.preset.training.schedule == "constant" and type(found.get("training.steps")) is int
    free = {"training.steps"} if longer else set()
    if settings := [key for key in unlike(found, wanted) if key not in free]:
        raise kept.refusal(
            (f"{key} ({found.get(key)} and not {wanted.get(key)})" for key in settings),
            "give the settings it was started with, or choose another --out",
        )
    if found != wanted:
        kept.write(wanted)
