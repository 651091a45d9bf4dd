"""Weights & Biases: `wandb:PROJECT` or `wandb:ENTITY/PROJECT`; by default, a project per protocol.

Scores are logged to the summary, facts to the configuration, and the record as an artifact. The id of the run
comes from the record, so logging a record again updates the same run: with `WANDB_MODE=offline` each call writes
a folder, and `wandb sync` merges them into one run.
"""

from vdm_bench.leaderboards.trackers import LoggedRun, library
from vdm_bench.runtime.run_folder import RECORD_FILE

_ID_LENGTH = 16


class WandbTracker:
    """Logs to Weights & Biases, which is configured by its environment variables.

    Args:
        project: `PROJECT` or `ENTITY/PROJECT`; may be empty.

    Raises:
        InputError: wandb is not installed.
    """

    def __init__(self, project: str) -> None:
        self._wandb = library("wandb", "wandb")
        self._entity, _, self._project = project.rpartition("/")

    def log(self, run: LoggedRun) -> None:
        """Log a run; if it is already logged, update it."""
        wandb = self._wandb
        quiet = wandb.Settings(console="off", silent=True, disable_git=True, x_disable_stats=True)
        made = wandb.init(
            entity=self._entity or None,
            project=self._project or run.board.replace(" ", "-"),
            id=run.key[:_ID_LENGTH],
            name=run.record.name,
            resume="allow",
            config={**run.facts, "record": run.key},
            settings=quiet,
        )
        with made:
            points = sorted((frame, name, value) for name, curve in run.curves.items() for frame, value in curve)
            for frame, name, value in points:
                made.log({name: value}, step=frame)  # a step that is already logged stays unchanged
            made.summary.update(run.metrics)
            artifact = wandb.Artifact(f"record-{run.key[:_ID_LENGTH]}", type="record")
            artifact.add_file(str(run.path), name=RECORD_FILE)
            made.log_artifact(artifact)
