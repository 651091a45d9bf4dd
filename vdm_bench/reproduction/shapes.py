"""The same tables on `shapes`: data, metrics and model come with the package, so claims are tested offline."""

from vdm_bench.errors import InputError
from vdm_bench.protocols import get_protocol
from vdm_bench.reproduction.experiments import Experiment, Model, ReproductionPlan, known_claims
from vdm_bench.reproduction.paper import CLAIMS, EXTENSION_SCALES, IMAGES, SCALES, paper_plan

STEPS = 64
LIMIT = 256
# The embedded network gives FVD and IS; frame-wise FIDs have no counterpart.
STAND_INS = {"fvd": "embedded/fvd", "is/frames-avg": "embedded/is", "i3d/is": "embedded/is"}
PACKAGED = Model("shapes", "shapes", packaged=True)


def shapes_plan(table: str, *, steps: int = STEPS, training_steps: int | None = None) -> ReproductionPlan:
    """Return the plan of a table on `shapes`.

    Args:
        table: `2` to `6`.
        steps: steps of the ancestral sampler; the predictor-corrector takes half as many, at the same cost.
        training_steps: training steps of the models of table 4; None for the preset's.

    Raises:
        InputError: table 1, which compares published models; or an odd number of steps.
    """
    if table == "1":
        raise InputError(
            "table 1 compares the model with those of others, so there is nothing in it to test on shapes; "
            "choose table2 to table6, or leave out --on-shapes"
        )
    if steps < 2 or steps % 2:
        raise InputError(
            f"--steps {steps} is odd or too small; the corrector takes half of them, so give 2, 4, ..."
        )
    cases, models, notes = {"4": _joint, "5": _guidance, "6": _extension}.get(table, _langevin)(
        table, steps, training_steps
    )
    published = paper_plan(table)
    metrics = {metric: STAND_INS[metric] for metric in published.metrics if metric in STAND_INS}
    return ReproductionPlan(
        table=table,
        title=f"{published.title}, its claims on shapes",
        cases=cases,
        models={model.name: model for model in models},
        metrics=metrics,
        claims=known_claims(CLAIMS[table], cases, metrics),
        notes=notes,
        limit=LIMIT,
    )


_Parts = tuple[tuple[Experiment, ...], tuple[Model, ...], tuple[str, ...]]


def _langevin(table: str, steps: int, training_steps: int | None) -> _Parts:
    published = paper_plan(table)
    ancestral, langevin = (published.case(key).label for key in ("ancestral", "langevin"))
    protocol = get_protocol("shapes-prediction")
    # Also correct after the last step: otherwise the corrector would evaluate the network once less.
    corrected = {"sampler": "predictor-corrector", "steps": str(steps // 2), "correct_last": "true"}
    cases = (
        Experiment("ancestral", ancestral, protocol, "shapes", {"sampler": "ancestral", "steps": str(steps)}),
        Experiment("langevin", langevin, protocol, "shapes", corrected),
    )
    return cases, (PACKAGED,), (f"both make {steps} network evaluations per clip",)


def _joint(table: str, steps: int, training_steps: int | None) -> _Parts:
    length: dict[str, int] = {} if training_steps is None else {"steps": training_steps}
    models = tuple(
        Model(f"images-{count}", "shapes", {"joint_images": count, **length}, trains=True) for count in IMAGES
    )
    cases = tuple(
        Experiment(
            model.name,
            f"small model, {count} image frames",
            get_protocol("shapes-unconditional"),
            model.name,
            {"steps": str(steps), "labels": "random"},
        )
        for model, count in zip(models, IMAGES, strict=True)
    )
    notes = (
        "three models are trained, one after the other: minutes on a GPU, hours on a CPU; stop at any time, and "
        "rerun the same command to resume",
        "one training run each: the intervals say nothing about other seeds of the training",
    )
    return cases, models, notes


def _guidance(table: str, steps: int, training_steps: int | None) -> _Parts:
    cases = tuple(
        Experiment(
            f"weight-{scale}",
            f"large model, frameskip 1, guidance weight {scale}",
            get_protocol("shapes-unconditional"),
            "shapes",
            {"steps": str(steps), "labels": "random", "guidance_scale": scale},
        )
        for scale in SCALES
    )
    return cases, (PACKAGED,), ("a label, drawn with the clip's seed, stands for the caption",)


def _extension(table: str, steps: int, training_steps: int | None) -> _Parts:
    labels = {case.key: case.label for case in paper_plan(table).cases}
    cases = tuple(
        Experiment(
            key,
            labels[key],
            get_protocol("shapes-extension"),
            "shapes",
            {"steps": str(steps), "labels": "random", "guidance_scale": scale, "method": method},
        )
        for scale in EXTENSION_SCALES
        for method in ("reconstruction", "replacement")
        for key in (f"{method}-{scale}",)
    )
    return (
        cases,
        (PACKAGED,),
        ("a label, drawn with the clip's seed, stands for the caption; w_r is the model's",),
    )
