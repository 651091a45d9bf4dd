"""The tables with the protocols, models and settings of the paper (appendix A; sections 4.1 to 4.3).

Gamma, delta, w_r and steps that are not named here are those of the model's preset.
"""

from collections.abc import Callable

from vdm_bench.protocols import get_protocol
from vdm_bench.reference_model.config import get_preset
from vdm_bench.reproduction.experiments import Claim, Experiment, Model, ReproductionPlan

TEXT_METRICS = ("fvd", "fid/frames-avg", "is/frames-avg", "fid/frames-first", "is/frames-first")
PRIVATE = (
    "the paper's 10 million captioned videos are private: on videos of your own the claims can be tested, the "
    "numbers not reproduced"
)
# Tables 5 and 6 seem to state 1 + w, so that 1.0 is no guidance; the paper does not say so.
SCALES = ("1.0", "2.0", "5.0")
EXTENSION_SCALES = ("2.0", "5.0")
IMAGES = (0, 4, 8)


def _better(metrics: tuple[str, ...], better: str, worse: str, text: str) -> tuple[Claim, ...]:
    return tuple(Claim(text, metric, better, worse) for metric in metrics)


_LANGEVIN = "the Langevin corrector beats ancestral sampling at equal cost"
_ALL = ("fvd", "fid/frames-avg", "is/frames-avg", "fid/frames-first", "is/frames-first")
_FIDS, _ISS = ("fid/frames-avg", "fid/frames-first"), ("is/frames-avg", "is/frames-first")

CLAIMS: dict[str, tuple[Claim, ...]] = {
    "1": (),
    "2": _better(("fvd",), "langevin", "ancestral", _LANGEVIN),
    "3": _better(("fvd", "i3d/is"), "langevin", "ancestral", _LANGEVIN),
    "4": (
        *_better(_ALL, "images-4", "images-0", "training with 4 images a video beats training with none"),
        *_better(_ALL, "images-8", "images-4", "training with 8 images a video beats training with 4"),
    ),
    "5": (
        *_better(_ISS, "weight-2.0", "weight-1.0", "guidance of weight 2 beats none"),
        *_better(_ISS, "weight-5.0", "weight-2.0", "guidance of weight 5 beats weight 2"),
        *_better(_FIDS, "weight-2.0", "weight-1.0", "guidance of weight 2 beats none"),
        *_better(_FIDS, "weight-2.0", "weight-5.0", "guidance of weight 5 is too much: weight 2 beats it"),
        *_better(("fvd",), "weight-1.0", "weight-5.0", "guidance of weight 5 is too much: none beats it"),
        *_better(("fvd",), "weight-2.0", "weight-5.0", "guidance of weight 5 is too much: weight 2 beats it"),
        *_better(("fvd",), "weight-1.0", "weight-2.0", "no guidance beats weight 2 at frameskip 1"),
        *_better(
            ("fvd",),
            "frameskip-4-weight-2.0",
            "frameskip-4-weight-1.0",
            "guidance of weight 2 beats none at frameskip 4",
        ),
    ),
    "6": tuple(
        claim
        for weight in ("2.0", "5.0")
        for claim in _better(
            ("fvd", "fid/frames-avg", "is/frames-avg"),
            f"reconstruction-{weight}",
            f"replacement-{weight}",
            f"reconstruction guidance beats replacement at guidance weight {weight}",
        )
    ),
}


def paper_plan(table: str) -> ReproductionPlan:
    """Return the plan of a table, `1` to `6`."""
    return _PLANS[table]()


def _settings(preset: str, *names: str, **changes: str) -> dict[str, str]:
    """Return the settings of a preset as text, so that any checkpoint is sampled with those of the paper."""
    sampling = get_preset(preset).sampling
    kept = {name: str(getattr(sampling, name)) for name in ("sampler", "steps", "gamma", *names)}
    return {"preset": preset, **kept, **changes}


def _table1() -> ReproductionPlan:
    protocol = get_protocol("ucf101-unconditional")
    cases = (
        Experiment("model", "Video Diffusion", protocol, "ucf101", _settings("ucf101")),
        Experiment("real", "real data", protocol, sampler="real"),
    )
    title = "unconditional generation on UCF101"
    notes = ("the reference set of FID, the splits, and what stands behind the ± are not stated",)
    return _plan("1", title, cases, ("c3d/fid", "c3d/is"), Model("ucf101", "ucf101"), notes=notes)


def _prediction(table: str, title: str, protocol: str, preset: str, steps: int, row: str) -> ReproductionPlan:
    """Compare ancestral sampling with the Langevin corrector, which evaluates the network twice per step."""
    followed = get_protocol(protocol)
    w_r = "reconstruction_weight"
    ancestral = _settings(preset, w_r, sampler="ancestral", steps=str(2 * steps))
    langevin = _settings(preset, "delta", w_r, sampler="predictor-corrector", steps=str(steps))
    cases = [
        Experiment("ancestral", f"{row} ancestral {2 * steps} steps", followed, preset, ancestral),
        Experiment("langevin", f"{row} Langevin {steps} steps", followed, preset, langevin),
    ]
    if table == "3":
        other = get_protocol("kinetics600-prediction-with-replacement")
        cases.append(
            Experiment("langevin-with-replacement", f"{row} Langevin {steps} steps", other, preset, langevin)
        )
    notes = ("at which steps the Langevin corrector runs, and the clipping, are not stated",)
    return _plan(table, title, tuple(cases), followed.metrics, Model(preset, preset), notes=notes)


def _table4() -> ReproductionPlan:
    protocol = get_protocol("text-video")
    models = [Model(f"images-{count}", "text-small", {"joint_images": count}) for count in IMAGES]
    cases = tuple(
        Experiment(
            model.name, f"small model, {count} image frames", protocol, model.name, _settings("text-small")
        )
        for model, count in zip(models, IMAGES, strict=True)
    )
    title = "joint training on videos and images"
    return _plan("4", title, cases, TEXT_METRICS, *models, notes=(PRIVATE,))


def _table5() -> ReproductionPlan:
    protocol = get_protocol("text-video")
    every_fourth = protocol.model_copy(update={"stride": 4})
    cases = [
        Experiment(
            f"weight-{scale}" if skip == 1 else f"frameskip-{skip}-weight-{scale}",
            f"large model, frameskip {skip}, guidance weight {scale}",
            protocol if skip == 1 else every_fourth,
            f"frameskip-{skip}",
            _settings("text-large", guidance_scale=scale),
        )
        for skip in (1, 4)
        for scale in SCALES
    ]
    models = [Model(f"frameskip-{skip}", "text-large", {"frame_stride": skip}) for skip in (1, 4)]
    title = "weights of classifier-free guidance"
    return _plan("5", title, tuple(cases), TEXT_METRICS, *models, notes=(PRIVATE,))


def _table6() -> ReproductionPlan:
    protocol = get_protocol("text-video-extension")
    names = {"reconstruction": "reconstruction guidance", "replacement": "replacement"}
    cases = tuple(
        Experiment(
            f"{method}-{scale}",
            f"{name}, guidance weight {scale}",
            protocol,
            "text-large",
            _settings("text-large", "reconstruction_weight", method=method, guidance_scale=scale),
        )
        for scale in EXTENSION_SCALES
        for method, name in names.items()
    )
    notes = (PRIVATE, "w_r and the frameskip of this table are not stated; w_r is this project's choice")
    title = "extension of 16 frames to 64"
    return _plan("6", title, cases, TEXT_METRICS, Model("text-large", "text-large"), notes=notes)


def _plan(
    table: str,
    title: str,
    cases: tuple[Experiment, ...],
    metrics: tuple[str, ...],
    *models: Model,
    notes: tuple[str, ...],
) -> ReproductionPlan:
    return ReproductionPlan(
        table=table,
        title=title,
        cases=cases,
        models={model.name: model for model in models},
        metrics={metric: metric for metric in metrics},
        claims=CLAIMS[table],
        notes=notes,
    )


_PLANS: dict[str, Callable[[], ReproductionPlan]] = {
    "1": _table1,
    "2": lambda: _prediction("2", "prediction on BAIR", "bair-prediction", "bair", 256, "Video Diffusion"),
    "3": lambda: _prediction(
        "3", "prediction on Kinetics-600", "kinetics600-prediction", "kinetics600", 128, "Video Diffusion"
    ),
    "4": _table4,
    "5": _table5,
    "6": _table6,
}
