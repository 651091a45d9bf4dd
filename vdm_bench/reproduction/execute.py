"""Carry out a plan: what is missing for each case, the models that are trained here, the runs, the verdicts.

Every run and every model has a folder of its own, so that all of it goes on where it was stopped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vdm_bench.errors import InputError, VdmBenchError
from vdm_bench.leaderboards.record import Record
from vdm_bench.metrics.jackknife import score_difference
from vdm_bench.metrics.score import Estimate, Score
from vdm_bench.metrics.weights import provide
from vdm_bench.protocols.clips import open_dataset
from vdm_bench.protocols.conditions import Conditions
from vdm_bench.reference_model.checkpoint import load_model
from vdm_bench.reference_model.config import get_preset
from vdm_bench.reference_model.model import checkpoint_path, packaged_models
from vdm_bench.reproduction.plan import Claim, Experiment, Model, ReproductionOptions, ReproductionPlan
from vdm_bench.runs.forecast import missing_networks
from vdm_bench.runs.run import run
from vdm_bench.runtime.locks import hold
from vdm_bench.runtime.progress import Reporter
from vdm_bench.runtime.stopping import Stop


class StoppedError(VdmBenchError):
    """Training was asked to stop; the same command goes on.

    Attributes:
        signal: number of the signal that asked for it.
    """

    def __init__(self, signal: int) -> None:
        super().__init__("stopped; rerun the same command to resume")
        self.signal, self.exit_code = signal, 128 + signal


def train_model(model: Model, folder: Path, means: ReproductionOptions, reporter: Reporter) -> Path:
    """Train a model on `shapes`, or go on with it; give its checkpoint.

    Raises:
        InputError: the folder holds another training run.
        StoppedError: it was asked to stop.
    """
    from vdm_bench.reference_model.training.loop import MODEL, Hooks, TrainingOptions, train
    from vdm_bench.training.data import open_batches
    from vdm_bench.training.preview import LogPrinter

    preset = get_preset(model.preset).override("training", **model.training)
    options = TrainingOptions(seed=means.seed, precision=means.precision, device=means.computing.device)
    reporter.note(f"model {model.name}: {preset.training.steps:,} steps of {preset.training.batch} clips")
    stop = Stop()
    hooks = Hooks(on_note=reporter.note, on_log=LogPrinter(reporter.note, preset.training), should_stop=stop)
    batches = open_batches(preset, seed=means.seed, workers=means.workers)
    with stop.on_signals():
        train(preset, batches, folder, options, hooks)
    if stop.signal is not None:
        raise StoppedError(stop.signal)
    return folder / MODEL


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        claim: the claim.
        metric: that was measured.
        difference: the score of the better case less that of the worse one; None where one of them has no value,
            or no interval.
        holds: True or False where the interval leaves out zero, else None.
    """

    claim: Claim
    metric: str
    difference: Estimate | None
    holds: bool | None


@dataclass(frozen=True)
class Outcome:
    """What came of a plan.

    Attributes:
        records: of the cases that could be run, by key.
        missing: what the others lack, by key.
        verdicts: on the claims whose both cases were run.
    """

    records: Mapping[str, Record]
    missing: Mapping[str, Sequence[str]]
    verdicts: Sequence[Verdict]

    def score(self, key: str, metric: str) -> Score | None:
        """Return the score of a case that was run."""
        record = self.records.get(key)
        return next((score for score in record.scores if score.metric == metric), None) if record else None


def missing_for(plan: ReproductionPlan, case: Experiment, means: ReproductionOptions) -> list[str]:
    """Say what a case lacks, but for weights that can be downloaded."""
    lacks = []
    try:
        open_dataset(case.protocol, case.protocol.reference, means.data_root)
        Conditions(case.protocol, means.data_root)
    except InputError as error:
        lacks.append(f"data: {error}")
    model = plan.models.get(case.model)
    if model is not None and not _has_model(model, means):
        lacks.append(
            f"a model: train one (`{model.command}`) and give --checkpoint {model.name}=FILE"
            if not model.packaged
            else f"a model: none named {model.name} comes with this package; give --checkpoint FILE"
        )
    return lacks


def _has_model(model: Model, means: ReproductionOptions) -> bool:
    return model.name in means.checkpoints or model.trains or (model.packaged and model.name in packaged_models())


def execute(plan: ReproductionPlan, means: ReproductionOptions, reporter: Reporter) -> Outcome:
    """Run what can be run.

    Raises:
        InputError: bad input; or `means.out` holds other runs.
        StoppedError: the training was asked to stop.
    """
    check_checkpoints(plan, means)
    with hold(means.out, "reproduce", note=reporter.note):  # what a killed one left, its run clears away
        return _carried_out(plan, means, reporter)


def _carried_out(plan: ReproductionPlan, means: ReproductionOptions, reporter: Reporter) -> Outcome:
    missing = {case.key: missing_for(plan, case, means) for case in plan.cases}
    ready = [case for case in plan.cases if not missing[case.key]]
    for case in ready:
        missing[case.key] = _fetch_weights(case, means, reporter)
    ready = [case for case in ready if not missing[case.key]]
    models = dict.fromkeys(case.model for case in ready if case.model)
    checkpoints = {name: _checkpoint(plan, name, means, reporter) for name in models}
    records = {case.key: _run(plan, case, checkpoints, means, reporter) for case in ready}
    lacking = {key: lacks for key, lacks in missing.items() if lacks}
    return Outcome(records, lacking, _verdicts(plan, records))


def check_checkpoints(plan: ReproductionPlan, means: ReproductionOptions) -> None:
    """Look at the checkpoints that were given before hours of runs.

    Raises:
        InputError: one is not there, unsound, of another preset, or trained otherwise.
    """
    for name, source in means.checkpoints.items():
        _check_checkpoint(plan, plan.models[name], source)


def _check_checkpoint(plan: ReproductionPlan, model: Model, source: str) -> None:
    preset = next(case.options.get("preset") for case in plan.cases if case.model == model.name)
    path = checkpoint_path(source)
    _, info = load_model(path, preset=preset)
    for key, value in model.training.items():
        if (found := info.training.get(key, value)) != value:
            raise InputError(
                f"{path} was trained with {key} {found}, and {model.name} is with {value}; give --checkpoint "
                f"{model.name}=FILE with another one (`{model.command}`)"
            )


def _fetch_weights(case: Experiment, means: ReproductionOptions, reporter: Reporter) -> list[str]:
    lacks = []
    for network in missing_networks(case.protocol, means.computing):
        try:
            provide(network, reporter=reporter)
        except InputError as error:
            lacks.append(f"weights: {error}")
    return lacks


def _checkpoint(plan: ReproductionPlan, name: str, means: ReproductionOptions, reporter: Reporter) -> str:
    model = plan.models[name]
    if name in means.checkpoints:
        return means.checkpoints[name]
    if not model.trains:
        return name
    return str(train_model(model, means.out / "models" / name, means, reporter))


def _run(
    plan: ReproductionPlan,
    case: Experiment,
    checkpoints: Mapping[str, str],
    means: ReproductionOptions,
    reporter: Reporter,
) -> Record:
    options = {**case.options}
    if case.model:
        options |= {"checkpoint": checkpoints[case.model], "precision": means.precision, **means.options}
    return run(
        case.protocol,
        out=means.out / case.key,
        sampler=case.sampler,
        options=options,
        data_root=means.data_root,
        seed=means.seed,
        limit=means.limit or plan.limit,
        computing=means.computing,
        workers=means.workers,
        name=case.row,
        reporter=reporter,
        recheck=means.recheck,
    )


def _verdicts(plan: ReproductionPlan, records: Mapping[str, Record]) -> list[Verdict]:
    verdicts = []
    for claim in plan.claims:
        if {claim.better, claim.worse} <= records.keys():
            metric = plan.metrics[claim.metric]
            better, worse = records[claim.better], records[claim.worse]
            (direction,) = (score.higher_is_better for score in better.scores if score.metric == metric)
            found = paired_difference(better, worse, metric)
            verdicts.append(verdict(claim, metric, found, higher_is_better=direction))
    return verdicts


def verdict(claim: Claim, metric: str, found: Estimate | None, *, higher_is_better: bool) -> Verdict:
    """Judge a claim by the interval of the difference, of the better case less the worse one."""
    if found is None:
        return Verdict(claim, metric, None, None)
    low, high = (found.low, found.high) if higher_is_better else (-found.high, -found.low)
    return Verdict(claim, metric, found, True if low > 0 else False if high < 0 else None)


def paired_difference(first: Record, second: Record, metric: str) -> Estimate | None:
    """Return a score of the first run less that of the second one.

    Returns:
        The difference; None where one of them has no value, or no interval, as of fewer than 10 clips.
    """
    a, b = (_score(record, metric) for record in (first, second))
    return None if a.value is None or b.value is None else score_difference(a, b)


def _score(record: Record, metric: str) -> Score:
    return next(score for score in record.scores if score.metric == metric)
