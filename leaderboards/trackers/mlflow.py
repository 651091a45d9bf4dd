"""MLflow: `mlflow:URI`, or `mlflow` for the tracking server of `MLFLOW_TRACKING_URI`.

A run is logged to the experiment of its protocol, with scores as metrics, facts as parameters and the record as
an artifact. A run that is already complete is left alone; an incomplete one, whose process died, is logged again.
"""

from typing import Any

from vdm_bench.leaderboards.trackers import LoggedRun, in_batches, library, safe_names

RECORD_TAG = "vdm_bench.record"  # SHA-256 of the record
_BATCH = 100  # most parameters, or metrics, that a server accepts in one request
_LONGEST = 6000  # characters of a parameter


class MlflowTracker:
    """Logs to an MLflow tracking server or folder.

    Args:
        uri: URI of the server, the database or the folder; if empty, MLflow's default.

    Raises:
        InputError: MLflow is not installed.
    """

    def __init__(self, uri: str) -> None:
        library("mlflow", "mlflow")
        self._uri = uri or None

    def log(self, run: LoggedRun) -> None:
        """Log a run, unless it is already logged."""
        client = library("mlflow.tracking", "mlflow").MlflowClient(tracking_uri=self._uri)
        experiment = self._experiment(client, run.board)
        for other in client.search_runs([experiment], f"tags.`{RECORD_TAG}` = '{run.key}'"):
            if other.info.status == "FINISHED":
                return
            client.delete_run(other.info.run_id)
        started = int(run.record.created.timestamp() * 1000)
        made = client.create_run(experiment, started, {RECORD_TAG: run.key}, run.record.name)
        self._fill(client, made.info.run_id, run, started)
        client.set_terminated(made.info.run_id)

    def _experiment(self, client: Any, name: str) -> str:
        found = client.get_experiment_by_name(name)
        experiment: str = found.experiment_id if found else client.create_experiment(name)
        return experiment

    def _fill(self, client: Any, run_id: str, run: LoggedRun, time: int) -> None:
        entities = library("mlflow.entities", "mlflow")
        safe = safe_names([*run.metrics, *run.curves])
        points = [(name, value, 0) for name, value in run.metrics.items()]
        points += [(name, value, frame) for name, curve in run.curves.items() for frame, value in curve]
        for batch in in_batches(points, _BATCH):
            metrics = [entities.Metric(safe[name], value, time, step) for name, value, step in batch]
            client.log_batch(run_id, metrics=metrics)
        names = safe_names(run.facts)
        for facts in in_batches(list(run.facts.items()), _BATCH):
            params = [entities.Param(names[name], str(value)[:_LONGEST]) for name, value in facts]
            client.log_batch(run_id, params=params)
        client.log_artifact(run_id, str(run.path))
