"""A plan carried out: what is missing for each case, the models that are trained here, the runs, the verdicts.

Every run and every model has a folder of its own, so that all of it goes on where it was stopped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.record import Record
from vdm_bench.metrics.networks import Computing
from vdm_bench.metrics.score import Difference, Score
from vdm_bench.metrics.weights import provide
from vdm_bench.protocols.conditions import Conditions
from vdm_bench.reference_model.checkpoint import load_model
from vdm_bench.reference_model.pretrained import checkpoint_path, packaged_models
from vdm_bench.reproduction.differences import paired_difference
from vdm_bench.reproduction.plan import Case, Claim, Model, Plan
from vdm_bench.reproduction.training import train_model
from vdm_bench.runs.forecast import absent_networks
from vdm_bench.runs.run import run
from vdm_bench.runtime.locks import hold
from vdm_bench.runtime.progress import Reporter

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Means:
    """What the user gives for a plan.

    Attributes:
        out: folder of all runs and models.
        checkpoints: of models, by name.
        data_root: where the protocols' dataset lies.
        options: of the sampler, in all runs of a model.
        limit: clips a case; None for the plan's own.
        seed: of the runs, and of the training.
        precision: of the model, trained and sampled.
        computing: how the metrics' networks compute, and where the model does.
        workers: threads that decode.
        recheck: read and hash every clip, whatever is remembered of its file.
    """

    out: Path
    checkpoints: Mapping[str, str] = field(default_factory=dict)
    data_root: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    seed: int = 0
    precision: Precision = "fp32"
    computing: Computing = field(default_factory=Computing)
    workers: int = 2
    recheck: bool = False


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
    difference: Difference | None
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
        """Give the score of a case that was run."""
        record = self.records.get(key)
        return next((score for score in record.scores if score.metric == metric), None) if record else None


def missing_for(plan: Plan, case: Case, means: Means) -> list[str]:
    """Say what a case lacks, but for weights that can be downloaded."""
    lacks = []
    try:
        case.protocol.open_dataset(case.protocol.reference, means.data_root)
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


def _has_model(model: Model, means: Means) -> bool:
    return model.name in means.checkpoints or model.trains or (model.packaged and model.name in packaged_models())


def carry_out(plan: Plan, means: Means, reporter: Reporter) -> Outcome:
    """Run what can be run.

    Raises:
        InputError: bad input; or `means.out` holds other runs.
        StoppedError: the training was asked to stop.
    """
    check_checkpoints(plan, means)
    with hold(means.out, "reproduce", note=reporter.note):  # what a killed one left, its run clears away
        return _carried_out(plan, means, reporter)


def _carried_out(plan: Plan, means: Means, reporter: Reporter) -> Outcome:
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


def check_checkpoints(plan: Plan, means: Means) -> None:
    """Look at the checkpoints that were given before hours of runs.

    Raises:
        InputError: one is not there, unsound, of another preset, or trained otherwise.
    """
    for name, source in means.checkpoints.items():
        _check_checkpoint(plan, plan.models[name], source)


def _check_checkpoint(plan: Plan, model: Model, source: str) -> None:
    preset = next(case.options.get("preset") for case in plan.cases if case.model == model.name)
    path = checkpoint_path(source)
    _, info = load_model(path, preset=preset)
    for key, value in model.training.items():
        if (found := info.training.get(key, value)) != value:
            raise InputError(
                f"{path} was trained with {key} {found}, and {model.name} is with {value}; give --checkpoint "
                f"{model.name}=FILE with another one (`{model.command}`)"
            )


def _fetch_weights(case: Case, means: Means, reporter: Reporter) -> list[str]:
    lacks = []
    for network in absent_networks(case.protocol, means.computing):
        try:
            provide(network, reporter=reporter)
        except InputError as error:
            lacks.append(f"weights: {error}")
    return lacks


def _checkpoint(plan: Plan, name: str, means: Means, reporter: Reporter) -> str:
    model = plan.models[name]
    if name in means.checkpoints:
        return means.checkpoints[name]
    if not model.trains:
        return name
    return str(train_model(model, means.out / "models" / name, means, reporter))


def _run(plan: Plan, case: Case, checkpoints: Mapping[str, str], means: Means, reporter: Reporter) -> Record:
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


def _verdicts(plan: Plan, records: Mapping[str, Record]) -> list[Verdict]:
    verdicts = []
    for claim in plan.claims:
        if {claim.better, claim.worse} <= records.keys():
            metric = plan.metrics[claim.metric]
            better, worse = records[claim.better], records[claim.worse]
            (direction,) = (score.higher_is_better for score in better.scores if score.metric == metric)
            found = paired_difference(better, worse, metric)
            verdicts.append(verdict(claim, metric, found, higher_is_better=direction))
    return verdicts


def verdict(claim: Claim, metric: str, found: Difference | None, *, higher_is_better: bool) -> Verdict:
    """Judge a claim by the interval of the difference, of the better case less the worse one."""
    if found is None:
        return Verdict(claim, metric, None, None)
    low, high = (found.low, found.high) if higher_is_better else (-found.high, -found.low)
    return Verdict(claim, metric, found, True if low > 0 else False if high < 0 else None)
