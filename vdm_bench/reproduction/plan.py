"""What a table takes to be made again: models, runs, and the claims that it supports."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vdm_bench.leaderboards.published import PublishedRow, published_rows
from vdm_bench.metrics.networks import ComputeConfig
from vdm_bench.protocols import Protocol

PAPER = "arXiv:2204.03458"
TABLES = ("table1", "table2", "table3", "table4", "table5", "table6")


Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class ReproductionOptions:
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
    computing: ComputeConfig = field(default_factory=ComputeConfig)
    workers: int = 2
    recheck: bool = False


@dataclass(frozen=True)
class Model:
    """A trained model that a table needs.

    Attributes:
        name: as in `--checkpoint NAME=FILE`.
        preset: what it is trained by.
        training: changes to the preset's training.
        packaged: whether a model of this name may come with the package.
        trains: whether it is trained here where no checkpoint is given.
    """

    name: str
    preset: str
    training: Mapping[str, int] = field(default_factory=dict)
    packaged: bool = False
    trains: bool = False

    @property
    def command(self) -> str:
        """The command that trains it."""
        changes = "".join(f" --set training.{key}={value}" for key, value in self.training.items())
        return f"vdm-bench train {self.preset}{changes} --out DIR"


@dataclass(frozen=True)
class Experiment:
    """A run that a table needs.

    Attributes:
        key: names it in claims, and its folder.
        row: method of the published rows that it stands beside.
        protocol: that it follows.
        model: name of the model that makes the clips; empty for a baseline.
        options: of the sampler.
        sampler: `reference`, or a baseline.
    """

    key: str
    row: str
    protocol: Protocol
    model: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    sampler: str = "reference"


@dataclass(frozen=True)
class Claim:
    """That one case is better than another one by a metric, as the published figures have it.

    Attributes:
        text: in words.
        metric: of the published table.
        better: key of the better case.
        worse: key of the other one.
    """

    text: str
    metric: str
    better: str
    worse: str


@dataclass(frozen=True)
class ReproductionPlan:
    """All that a table takes.

    Attributes:
        table: its number in the paper.
        title: what it is about.
        cases: the runs.
        models: that make the clips, by name.
        metrics: metric of the published table -> metric that stands for it here.
        claims: that are tested.
        notes: what to know before, such as what the paper does not say.
        limit: clips a case where the user says nothing; None for the protocol's.
    """

    table: str
    title: str
    cases: tuple[Experiment, ...]
    models: Mapping[str, Model]
    metrics: Mapping[str, str]
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = ()
    limit: int | None = None

    @property
    def published(self) -> tuple[PublishedRow, ...]:
        """The rows of the table, and those in the text beside it."""
        return tuple(row for row in published_rows() if row.table.removesuffix("-text") == self.table)

    def case(self, key: str) -> Experiment:
        """Return the case of a key."""
        return next(case for case in self.cases if case.key == key)

    def case_of(self, row: PublishedRow) -> Experiment | None:
        """Return the case that stands beside a published row, if there is one."""
        beside = [case for case in self.cases if case.row == row.method and row.metric in self.metrics]
        same = [case for case in beside if case.protocol.name == row.protocol]
        # A row in the text beside a table has the method of one in it.
        return next(iter(same or (beside if row.table == self.table else [])), None)


def known_claims(
    claims: tuple[Claim, ...], cases: tuple[Experiment, ...], metrics: Mapping[str, str]
) -> tuple[Claim, ...]:
    """Choose the claims that these cases and metrics can test."""
    keys = {case.key for case in cases}
    return tuple(claim for claim in claims if {claim.better, claim.worse} <= keys and claim.metric in metrics)
