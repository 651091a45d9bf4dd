"""Execute a plan: find what is missing, train models, run the experiments, judge the claims.

Every run and every model has its own folder, so an interrupted reproduction resumes.
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
from vdm_bench.reproduction.experiments import Claim, Experiment, Model, ReproductionOptions, ReproductionPlan
from vdm_bench.runs.run import run
from vdm_bench.runtime.locks import hold
from vdm_bench.runtime.progress import Reporter
from vdm_bench.runtime.stopping import Stop
from vdm_bench.samplers.reference_model import check_options
from vdm_bench.scoring.suite import missing_weights, recipes_of


class StoppedError(VdmBenchError):
    """Training was asked to stop; rerun the same command to resume.

    Attributes:
        signal: number of the signal that stopped it.
    """

    def __init__(self, signal: int) -> None:
        super().__init__("stopped; rerun the same command to resume")
        self.signal, self.exit_code = signal, 128 + signal


def train_model(model: Model, folder: Path, options: ReproductionOptions, reporter: Reporter) -> Path:
    """Train a model on `shapes`, or resume its training; return its checkpoint.

    Raises:
        InputError: the folder holds another training run.
        StoppedError: a signal stopped the training.
    """
    from vdm_bench.reference_model.training.loop import MODEL, Hooks, TrainingOptions, train
    from vdm_bench.training.data import open_batches
    from vdm_bench.training.preview import LogPrinter

    preset = get_preset(model.preset).override("training", **model.training)
    training = TrainingOptions(seed=options.seed, precision=options.precision, device=options.computing.device)
    reporter.note(f"model {model.name}: {preset.training.steps:,} steps of {preset.training.batch} clips")
    stop = Stop()
    hooks = Hooks(on_note=reporter.note, on_log=LogPrinter(reporter.note, preset.training), should_stop=stop)
    batches = open_batches(preset, seed=options.seed, workers=options.workers)
    with stop.on_signals():
        train(preset, batches, folder, training, hooks)
    if stop.signal is not None:
        raise StoppedError(stop.signal)
    return folder / MODEL


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim.

    Attributes:
        claim: the claim.
        metric: metric that was measured.
        difference: score of the better experiment minus that of the worse; None if one of them has no value or
            no interval.
        holds: True or False if the interval excludes zero, else None.
    """

    claim: Claim
    metric: str
    difference: Estimate | None
    holds: bool | None


@dataclass(frozen=True)
class Outcome:
    """The result of a plan.

    Attributes:
        records: records of the experiments that could be run, by key.
        missing: what the others lack, by key.
        verdicts: verdicts on the claims of which both experiments were run.
    """

    records: Mapping[str, Record]
    missing: Mapping[str, Sequence[str]]
    verdicts: Sequence[Verdict]

    def score(self, key: str, metric: str) -> Score | None:
        """Return the score of an experiment, or None if it was not run."""
        record = self.records.get(key)
        return next((score for score in record.scores if score.metric == metric), None) if record else None


def missing_for(plan: ReproductionPlan, case: Experiment, options: ReproductionOptions) -> list[str]:
    """Return what an experiment lacks, except weights that can be downloaded."""
    lacks = []
    try:
        open_dataset(case.protocol, case.protocol.reference, options.data_root)
        Conditions(case.protocol, options.data_root)
    except InputError as error:
        lacks.append(f"data: {error}")
    model = plan.models.get(case.model)
    if model is not None and not _has_model(model, options):
        lacks.append(
            f"a model: train one (`{model.command}`) and give --checkpoint {model.name}=FILE"
            if not model.packaged
            else f"a model: none named {model.name} comes with this package; give --checkpoint FILE"
        )
    return lacks


def _has_model(model: Model, options: ReproductionOptions) -> bool:
    return (
        model.name in options.checkpoints or model.trains or (model.packaged and model.name in packaged_models())
    )


def execute(plan: ReproductionPlan, options: ReproductionOptions, reporter: Reporter) -> Outcome:
    """Run every experiment whose data, weights and models are available.

    Raises:
        InputError: bad input; or `options.out` holds other runs.
        StoppedError: a signal stopped the training.
    """
    check_inputs(plan, options)
    with hold(options.out, "reproduce", note=reporter.note):  # each run cleans up its own folder
        return _execute(plan, options, reporter)


def _execute(plan: ReproductionPlan, options: ReproductionOptions, reporter: Reporter) -> Outcome:
    missing = {case.key: missing_for(plan, case, options) for case in plan.cases}
    ready = [case for case in plan.cases if not missing[case.key]]
    for case in ready:
        missing[case.key] = _fetch_weights(case, options, reporter)
    ready = [case for case in ready if not missing[case.key]]
    models = dict.fromkeys(case.model for case in ready if case.model)
    checkpoints = {name: _checkpoint(plan, name, options, reporter) for name in models}
    records = {case.key: _run(plan, case, checkpoints, options, reporter) for case in ready}
    lacking = {key: lacks for key, lacks in missing.items() if lacks}
    return Outcome(records, lacking, _verdicts(plan, records))


def check_inputs(plan: ReproductionPlan, options: ReproductionOptions) -> None:
    """Check the given checkpoints and sampler options before hours of runs.

    Raises:
        InputError: a checkpoint is missing, damaged, of another preset, or trained with other settings; or an
            option is unknown or out of range.
    """
    check_options(options.options)
    for name, source in options.checkpoints.items():
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


def _fetch_weights(case: Experiment, options: ReproductionOptions, reporter: Reporter) -> list[str]:
    lacks = []
    for network in missing_weights(recipes_of(case.protocol.metrics), options.computing):
        try:
            provide(network, reporter=reporter)
        except InputError as error:
            lacks.append(f"weights: {error}")
    return lacks


def _checkpoint(plan: ReproductionPlan, name: str, options: ReproductionOptions, reporter: Reporter) -> str:
    model = plan.models[name]
    if name in options.checkpoints:
        return options.checkpoints[name]
    if not model.trains:
        return name
    return str(train_model(model, options.out / "models" / name, options, reporter))


def _run(
    plan: ReproductionPlan,
    case: Experiment,
    checkpoints: Mapping[str, str],
    options: ReproductionOptions,
    reporter: Reporter,
) -> Record:
    sampling = {**case.options}
    if case.model:
        sampling |= {"checkpoint": checkpoints[case.model], "precision": options.precision, **options.options}
    return run(
        case.protocol,
        out=options.out / case.key,
        sampler=case.sampler,
        options=sampling,
        data_root=options.data_root,
        seed=options.seed,
        limit=options.limit or plan.limit,
        computing=options.computing,
        workers=options.workers,
        name=case.label,
        reporter=reporter,
        recheck=options.recheck,
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
    """Judge a claim by the interval of the difference, better minus worse."""
    if found is None:
        return Verdict(claim, metric, None, None)
    low, high = (found.low, found.high) if higher_is_better else (-found.high, -found.low)
    return Verdict(claim, metric, found, True if low > 0 else False if high < 0 else None)


def paired_difference(first: Record, second: Record, metric: str) -> Estimate | None:
    """Return a score of the first run minus that of the second.

    Returns:
        The difference; None if one of them has no value or no interval, as with fewer than 10 clips.
    """
    a, b = (_score(record, metric) for record in (first, second))
    return None if a.value is None or b.value is None else score_difference(a, b)


def _score(record: Record, metric: str) -> Score:
    return next(score for score in record.scores if score.metric == metric)
