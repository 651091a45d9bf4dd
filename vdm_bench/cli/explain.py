"""`vdm-bench explain`: why two recipes give different scores, setting by setting."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vdm_bench.cli import options
from vdm_bench.cli.options import show_json, show_text
from vdm_bench.cli.proposal import proposing

if TYPE_CHECKING:
    from vdm_bench.metrics.choices import Aspect, ResizeRule
    from vdm_bench.metrics.networks import ComputeConfig
    from vdm_bench.scoring.explain import Explanation
    from vdm_bench.video.timing import Fps


@click.command(short_help="Explain why two metrics differ on your clips.")
@click.argument("generated", type=options.PATH)
@click.option("--reference", type=options.PATH, required=True, help="Real clips.")
@click.option("--from", "start", default="fvd", show_default=True, help="Metric to start from.")
@click.option("--to", "goal", required=True, help="Metric to end at, such as fvd/stylegan-v.")
@options.clips
@options.skip_broken
@options.computing
@options.workers
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def explain(
    generated: Path,
    reference: Path,
    start: str,
    goal: str,
    frames: int | None,
    stride: int,
    fps: "Fps | None",
    size: tuple[int, int] | None,
    resize: "ResizeRule | None",
    aspect: "Aspect",
    strips: bool,
    skip_broken: bool,
    computing: "ComputeConfig",
    workers: int,
    as_json: bool,
) -> None:
    """Change one metric into another, one setting at a time, on the clips in GENERATED.

    Prints what each setting contributes to the gap between the two scores, such as two implementations of FVD.

    \b
    vdm-bench explain samples/ --reference real/ --from fvd --to fvd/stylegan-v
    """
    from vdm_bench.runtime.progress import Console
    from vdm_bench.scoring.explain import explain as compute
    from vdm_bench.scoring.score import ScoreOptions
    from vdm_bench.video.view import View

    chosen = ScoreOptions(
        view=View(frames, stride, size, resize, aspect, fps),
        strips=strips,
        skip_broken=skip_broken,
        computing=computing,
        workers=workers,
    )
    with proposing():
        found = compute(generated, reference, start, goal, chosen, Console())
    if as_json:
        show_json(found.to_dict())
    else:
        show_text(_table(found))


def _table(found: "Explanation") -> str:
    start, goal = found.start.value or 0.0, found.goal.value or 0.0
    rows: list[tuple[str, str, float, float | None]] = [("", "", start, None)]
    rows += [
        (step.setting, f"{step.before} > {step.after}", step.score.value or 0.0, step.contribution)
        for step in found.steps
    ]
    setting = max(len(row[0]) for row in rows)
    change = max([len(row[1]) for row in rows] + [len(found.start.metric), len(found.goal.metric)])
    lines = [f"{'setting':<{max(setting, 7)}}  {'change':<{change}}  {'score':>12}  {'effect':>12}"]
    for name, text, value, effect in rows:
        shown = f"{effect:+12.4f}" if effect is not None else f"{'':12}"
        label = text or found.start.metric
        lines.append(f"{name:<{max(setting, 7)}}  {label:<{change}}  {value:12.4f}  {shown}".rstrip())
    lines.append(f"{'':<{max(setting, 7)}}  {found.goal.metric:<{change}}  {goal:12.4f}  {goal - start:+12.4f}")
    if not found.steps:
        lines.append("the two metrics have the same settings for these clips")
    else:
        lines.append("effects depend on the order in which settings are changed; they add up to the gap")
    return "\n".join(lines)
