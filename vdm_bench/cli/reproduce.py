"""`vdm-bench reproduce`: reproduce a table of the paper."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from vdm_bench.cli import options
from vdm_bench.errors import InputError

if TYPE_CHECKING:
    from vdm_bench.metrics.networks import ComputeConfig
    from vdm_bench.reproduction.experiments import ReproductionPlan
    from vdm_bench.reproduction.tables import Format

_TABLES = tuple(f"table{number}" for number in range(1, 7))


@click.command(short_help="Reproduce a table of the paper, or test its claims on shapes.")
@click.argument("table", type=click.Choice(_TABLES))
@click.option("--on-shapes", is_flag=True, help="Test the table's claims on the dataset `shapes`, offline.")
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    metavar="[NAME=]FILE",
    help="A trained model; if the table needs several, with its name in --dry-run.",
)
@click.option(
    "--option",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="Sampler option for all runs, such as text=FILE; may be repeated.",
)
@options.data_root
@click.option("--out", type=options.PATH, help="Folder of the runs.  [default: runs/reproduce/TABLE]")
@click.option("--limit", type=click.IntRange(10), help="Clips per run.  [default: the protocol's; 256 on shapes]")
@click.option("--steps", type=click.IntRange(2), help="Sampling steps on shapes, an even number.  [default: 64]")
@click.option(
    "--training-steps",
    type=click.IntRange(1),
    help="Training steps of the models of table 4 on shapes.  [default: 6000]",
)
@click.option(
    "--model-precision",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Precision of the model in training and sampling.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of all runs.")
@click.option("--dry-run", is_flag=True, help="Print only the plan, and what is missing.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "latex", "json"]),
    default="text",
    show_default=True,
    help="Format of the table.",
)
@options.output
@options.recheck
@options.computing
@options.workers
@options.resumable
def reproduce(
    table: str,
    on_shapes: bool,
    checkpoints: tuple[str, ...],
    pairs: tuple[str, ...],
    data_root: Path | None,
    out: Path | None,
    limit: int | None,
    steps: int | None,
    training_steps: int | None,
    model_precision: Literal["fp32", "bf16"],
    seed: int,
    dry_run: bool,
    form: "Format",
    output: Path | None,
    recheck: bool,
    computing: "ComputeConfig",
    workers: int,
) -> None:
    """Run the experiments of TABLE of Ho et al. 2022, and print it with an extra column for your values.

    Experiments with missing data, weights or models are skipped and listed. With --on-shapes the
    experiments run on the dataset `shapes`, and the table's claims are tested. Rerun the command to resume.

    \b
    vdm-bench reproduce table2 --dry-run
    vdm-bench reproduce table2 --data-root datasets/bair --checkpoint bair.safetensors
    vdm-bench reproduce table5 --on-shapes
    """
    from vdm_bench.reproduction.execute import check_inputs, execute
    from vdm_bench.reproduction.experiments import ReproductionOptions
    from vdm_bench.reproduction.tables import format_outcome, plan_lines
    from vdm_bench.runtime.files import check_file_writable
    from vdm_bench.runtime.progress import Console

    if output is not None:
        check_file_writable(output)
    plan = _plan(table, on_shapes, steps, training_steps)
    chosen = ReproductionOptions(
        out=out or Path("runs", "reproduce", f"{table}-shapes" if on_shapes else table),
        checkpoints=_named(checkpoints, plan),
        data_root=data_root,
        options=options.key_values(pairs),
        limit=limit,
        seed=seed,
        precision=model_precision,
        computing=computing,
        workers=workers,
        recheck=recheck,
    )
    if dry_run:
        check_inputs(plan, chosen)
        options.write_or_print("\n".join(plan_lines(plan, chosen)) + "\n", output)
        return
    options.write_or_print(format_outcome(plan, execute(plan, chosen, Console()), form), output)


def _plan(table: str, on_shapes: bool, steps: int | None, training_steps: int | None) -> "ReproductionPlan":
    from vdm_bench.reproduction.paper import paper_plan
    from vdm_bench.reproduction.shapes import STEPS, shapes_plan

    number = table.removeprefix("table")
    if training_steps is not None and (not on_shapes or number != "4"):
        raise InputError("--training-steps is for table4 with --on-shapes; leave it out")
    if on_shapes:
        return shapes_plan(number, steps=STEPS if steps is None else steps, training_steps=training_steps)
    if steps is not None:
        raise InputError("--steps works only with --on-shapes; without it the steps are the paper's")
    return paper_plan(number)


def _named(checkpoints: Sequence[str], plan: "ReproductionPlan") -> Mapping[str, str]:
    """Parse checkpoints: `NAME=FILE`, or only the file if there is one model."""
    named = {}
    for text in checkpoints:
        name, equals, file = text.partition("=")
        if not equals and len(plan.models) == 1:
            name, file = next(iter(plan.models)), text
        if name not in plan.models or not file:
            raise InputError(
                f"--checkpoint {text!r} names no model of this table; give NAME=FILE, with NAME one of "
                f"{', '.join(plan.models)}"
            )
        named[name] = file
    return named
