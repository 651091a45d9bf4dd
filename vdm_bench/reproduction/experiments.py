"""What it takes to reproduce a table: models, experiments, and the claims they test."""

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
    """How a table is reproduced.

    Attributes:
        out: folder of all runs and models.
        checkpoints: checkpoints of the models, by name.
        data_root: folder of the protocols' dataset.
        options: sampler options for all runs of a model.
        limit: clips per experiment; None for the plan's own limit.
        seed: seed of the runs and of the training.
        precision: precision of the model in training and sampling.
        computing: how the metrics' networks compute; its device is also the model's.
        workers: decoding threads.
        recheck: read and hash every clip, even if its hash is cached.
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
        preset: preset that it is trained with.
        training: changes to the preset's training settings.
        packaged: whether the package may include a model of this name.
        trains: whether it is trained here if no checkpoint is given.
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
        key: identifies it in claims; also the name of its folder.
        label: name of the method in the published rows that it is compared with.
        protocol: protocol that it follows.
        model: name of the model that generates the clips; empty for a baseline.
        options: sampler options.
        sampler: `reference`, or a baseline.
    """

    key: str
    label: str
    protocol: Protocol
    model: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    sampler: str = "reference"


@dataclass(frozen=True)
class Claim:
    """A claim that one experiment scores better than another, taken from the published values.

    Attributes:
        text: the claim as text.
        metric: metric of the published table.
        better: key of the better experiment.
        worse: key of the worse one.
    """

    text: str
    metric: str
    better: str
    worse: str


@dataclass(frozen=True)
class ReproductionPlan:
    """Everything needed to reproduce a table.

    Attributes:
        table: its number in the paper.
        title: its subject.
        cases: the experiments.
        models: the models that generate the clips, by name.
        metrics: metric of the published table -> metric that replaces it here.
        claims: the claims to test.
        notes: notes for the reader, such as what the paper does not state.
        limit: default number of clips per experiment; None for the protocol's.
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
        """The rows of the table, and those in the text of its section."""
        return tuple(row for row in published_rows() if row.table.removesuffix("-text") == self.table)

    def case(self, key: str) -> Experiment:
        """Return the experiment with this key."""
        return next(case for case in self.cases if case.key == key)

    def case_of(self, row: PublishedRow) -> Experiment | None:
        """Return the experiment that reproduces a published row, if there is one."""
        matching = [case for case in self.cases if case.label == row.method and row.metric in self.metrics]
        same = [case for case in matching if case.protocol.name == row.protocol]
        # A row in the text repeats the method of a row in the table.
        return next(iter(same or (matching if row.table == self.table else [])), None)


def known_claims(
    claims: tuple[Claim, ...], cases: tuple[Experiment, ...], metrics: Mapping[str, str]
) -> tuple[Claim, ...]:
    """Return the claims that these experiments and metrics can test."""
    keys = {case.key for case in cases}
    return tuple(claim for claim in claims if {claim.better, claim.worse} <= keys and claim.metric in metrics)
