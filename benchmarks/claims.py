"""The paper's claims about sampling, tested on a trained model of `shapes`.

    python benchmarks/claims.py --out runs/claims --limit 256            # an hour on two cores, minutes on a GPU
    python benchmarks/claims.py --out runs/claims --limit 256 --claim guidance

Claims of Ho et al. 2022 (arXiv 2204.03458): sections 3.1 and 4.3.3 and table 6 (reconstruction guidance against
replacement), table 5 (guidance weights), tables 2 and 3 (Langevin correction); `vdm-bench reproduce` tests the
tables' own settings, here are more. Each case is a run of its own that goes on where it was stopped. Cases of one
claim share seeds and given frames; a difference to the claim's first case is paired, with its 95 % jackknife
interval. The table is markdown, on stdout.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vdm_bench.leaderboards.record import Record
from vdm_bench.leaderboards.rounding import rounded, useful_decimals
from vdm_bench.metrics.networks import Computing
from vdm_bench.metrics.score import Difference, Interval
from vdm_bench.progress import Console
from vdm_bench.protocols import get_protocol
from vdm_bench.reference_model.pretrained import PRECISIONS
from vdm_bench.reproduction.differences import paired_differences
from vdm_bench.runner import run


@dataclass(frozen=True)
class Claim:
    """What the paper says, and the cases that test it; the first one is what the others are compared with."""

    text: str
    protocol: str
    cases: Mapping[str, Mapping[str, str]]


# The paper takes 9 for Kinetics-600 and 50 for BAIR.
PREDICTION_WEIGHTS = ("1", "2", "5", "10")
GUIDANCE_WEIGHTS = ("0", "0.5", "1", "2", "4")


def claims(steps: int) -> dict[str, Claim]:
    """Give the claims by name.

    Args:
        steps: of the ancestral sampler in all cases that say nothing else; an even number.
    """
    replaced = {
        "replacement": {"method": "replacement"},
        "replacement, conditional": {"method": "replacement-conditional"},
    }
    half = str(steps // 2)
    return {
        "prediction": Claim(
            "Reconstruction guidance predicts better than replacement (section 3.1)",
            "shapes-prediction",
            replaced | {f"reconstruction, w_r = {w}": {"reconstruction_weight": w} for w in PREDICTION_WEIGHTS},
        ),
        "extension": Claim(
            "Reconstruction guidance extends 16 frames to 64 better than replacement (table 6)",
            "shapes-extension",
            replaced | {"reconstruction, w_r = 2": {"reconstruction_weight": "2"}},
        ),
        "guidance": Claim(
            "Guidance raises IS with w, and FVD is best at a small w (table 5)",
            "shapes-unconditional",
            {f"w = {w}": {"labels": "random", "guidance_weight": w} for w in GUIDANCE_WEIGHTS},
        ),
        "langevin": Claim(
            "At equal evaluations the predictor-corrector is not worse than ancestral sampling (tables 2, 3)",
            "shapes-unconditional",
            {
                f"ancestral, {steps} steps": {},
                f"predictor-corrector, {half} + {half} steps": {
                    "sampler": "predictor-corrector",
                    "steps": half,
                    "correct_last": "true",
                },
            },
        ),
    }


NAMES = tuple(claims(2))


def main() -> None:
    """Run the cases and print a table for each claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--limit", type=int, default=256, help="clips a case")
    parser.add_argument("--checkpoint", default="shapes", help="a trained model")
    parser.add_argument("--claim", choices=NAMES, action="append", help="test this one only; may be repeated")
    parser.add_argument("--steps", type=int, default=64, help="steps of the sampler, an even number")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the model's arithmetic")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    known, computing = claims(arguments.steps), Computing(device=arguments.device)
    common = {name: str(getattr(arguments, name)) for name in ("checkpoint", "steps", "precision")}
    for name in arguments.claim or NAMES:
        print_claim(known[name], arguments.out / name, arguments.limit, common, computing)


def print_claim(claim: Claim, out: Path, limit: int, common: Mapping[str, str], computing: Computing) -> None:
    """Run the cases of one claim, each with the common options, and print its table."""
    protocol = get_protocol(claim.protocol)
    records = {
        name: run(
            protocol,
            out=out / str(number),
            sampler="reference",
            options={**common, **options},
            limit=limit,
            computing=computing,
            name=name,
            reporter=Console(),
        )
        for number, (name, options) in enumerate(claim.cases.items())
    }
    first, *others = records.values()
    found = [paired_differences(other, first) for other in others]
    metrics = protocol.metrics
    print(
        f"\n**{claim.text}.** `{protocol.name}`, {limit} clips a case, {common['steps']} steps, "
        f"{common['precision']}.\n"
    )
    print("| case |" + "".join(f" {metric} | difference |" for metric in metrics))
    print("|---|" + "---|---|" * len(metrics))
    for (name, record), row in zip(records.items(), [{}, *found], strict=True):
        print(f"| {name} |" + "".join(cells(record, metric, row.get(metric)) for metric in metrics))


def cells(record: Record, metric: str, difference: Difference | None) -> str:
    """A score and its difference to the first case, each with its interval."""
    score = next(score for score in record.scores if score.metric == metric)
    if score.value is None or score.interval is None:
        raise SystemExit(f"{metric} of {record.name} has no interval; give --limit 64 or more")
    value = spread(score.interval, score.value)
    return f" {value} | {'' if difference is None else spread(difference, difference.value)} |"


def spread(made: Interval | Difference, value: float) -> str:
    """A value with its interval, in as many digits as the interval bears."""
    decimals = useful_decimals(value, made.low, made.high)
    return f"{rounded(value, decimals)} [{rounded(made.low, decimals)}, {rounded(made.high, decimals)}]"


if __name__ == "__main__":
    main()
