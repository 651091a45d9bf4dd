"""The paper's claims about sampling, tested on a trained model of `shapes`.

    python benchmarks/claims.py --out runs/claims                      # hours on two cores, minutes on a GPU
    python benchmarks/claims.py --out runs/claims --limit 128 --steps 32 --claim table5 --claim table2

These are the plans of `vdm-bench reproduce table5`, `table2` and `table6` with `--on-shapes`, and one of
prediction, where the paper states in its text that reconstruction guidance beats replacement (Ho et al. 2022,
arXiv 2204.03458, section 3.1). Each case is a run that resumes after an interruption; cases share seeds and
context frames, so their differences are paired. The tables are markdown, on stdout.
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from vdm_bench.leaderboards.text import rounded, useful_decimals
from vdm_bench.metrics.networks import ComputeConfig
from vdm_bench.metrics.score import Estimate, Interval, Score
from vdm_bench.protocols import get_protocol
from vdm_bench.reference_model.config import PRECISIONS
from vdm_bench.reproduction.execute import Outcome, execute
from vdm_bench.reproduction.experiments import Claim, Experiment, ReproductionOptions, ReproductionPlan
from vdm_bench.reproduction.shapes import PACKAGED, shapes_plan
from vdm_bench.reproduction.tables import VERDICTS
from vdm_bench.runtime.progress import Console

# The paper takes 9 for Kinetics-600 and 50 for BAIR.
PREDICTION_WEIGHTS = ("2", "5", "10")


def prediction_plan(steps: int) -> ReproductionPlan:
    """Plan prediction by reconstruction guidance of several weights, and by both ways of replacement.

    Args:
        steps: of the ancestral sampler.
    """
    options = {key: {"method": key} for key in ("replacement", "replacement-conditional")}
    claims = []
    for weight in PREDICTION_WEIGHTS:
        key = f"reconstruction-{weight}"
        claims += [
            Claim(f"reconstruction guidance of weight {weight} predicts better than {worse}", "fvd", key, worse)
            for worse in ("replacement", "replacement-conditional")
        ]
        options[key] = {"reconstruction_weight": weight}
    protocol = get_protocol("shapes-prediction")
    cases = [
        Experiment(key, key, protocol, PACKAGED.name, {"steps": str(steps), **chosen})
        for key, chosen in options.items()
    ]
    return ReproductionPlan(
        table="",
        title="prediction of 12 frames from 4",
        cases=tuple(cases),
        models={PACKAGED.name: PACKAGED},
        metrics={"fvd": "embedded/fvd", "is": "embedded/is"},
        claims=tuple(claims),
        limit=256,
    )


def table_plan(table: str) -> Callable[[int], ReproductionPlan]:
    """Return what makes the plan of a table for a number of steps."""
    return lambda steps: shapes_plan(table, steps=steps)


PLANS: dict[str, Callable[[int], ReproductionPlan]] = {
    "table5": table_plan("5"),
    "table2": table_plan("2"),
    "prediction": prediction_plan,
    "table6": table_plan("6"),
}


def main() -> None:
    """Run the plans and print two tables for each: scores, and verdicts on the claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--limit", type=int, help="clips a case; 256 if not given")
    parser.add_argument("--checkpoint", help="a trained model; the one of the package if not given")
    parser.add_argument("--claim", choices=PLANS, action="append", help="test this one only; may be repeated")
    parser.add_argument("--steps", type=int, default=64, help="steps of the sampler, an even number")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the model's arithmetic")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    for name in arguments.claim or PLANS:
        plan = PLANS[name](arguments.steps)
        means = ReproductionOptions(
            out=arguments.out / name,
            checkpoints={PACKAGED.name: arguments.checkpoint} if arguments.checkpoint else {},
            limit=arguments.limit,
            precision=arguments.precision,
            computing=ComputeConfig(device=arguments.device),
        )
        outcome = execute(plan, means, Console())
        print("\n".join(("", *head(plan, means, arguments.steps), "", *score_table(plan, outcome))))
        print("\n".join(("", *verdict_table(outcome))), flush=True)


def head(plan: ReproductionPlan, means: ReproductionOptions, steps: int) -> Iterable[str]:
    """Say what was run."""
    title = f"Table {plan.table}: {plan.title}" if plan.table else plan.title.capitalize()
    clips = f"{means.limit or plan.limit} clips a case, {steps} steps, {means.precision}"
    yield f"**{title}.** `{plan.cases[0].protocol.name}`, {clips}."


def score_table(plan: ReproductionPlan, outcome: Outcome) -> Iterable[str]:
    """Every case, with every metric of the plan and its interval."""
    metrics = dict.fromkeys(plan.metrics.values())
    yield f"| case | {' | '.join(metrics)} |"
    yield "|---|" + "---:|" * len(metrics)
    for case in plan.cases:
        yield f"| {case.label} | {' | '.join(cell(outcome.score(case.key, metric)) for metric in metrics)} |"


def verdict_table(outcome: Outcome) -> Iterable[str]:
    """Every claim, with the paired difference and its verdict."""
    yield "| claim | metric | difference | verdict |"
    yield "|---|---|---:|---|"
    for made in outcome.verdicts:
        difference = spread(made.difference.value, made.difference) if made.difference else "none"
        yield f"| {made.claim.text} | {made.metric} | {difference} | {VERDICTS[made.holds]} |"


def cell(score: Score | None) -> str:
    """A score with its interval."""
    if score is None or score.value is None or score.interval is None:
        raise SystemExit("a score has no interval; give --limit 64 or more")
    return spread(score.value, score.interval)


def spread(value: float, made: Interval | Estimate) -> str:
    """A value with its interval, in as many digits as the interval bears."""
    decimals = useful_decimals(value, made.low, made.high)
    return f"{rounded(value, decimals)} [{rounded(made.low, decimals)}, {rounded(made.high, decimals)}]"


if __name__ == "__main__":
    main()
