"""What each table of the paper claims, as comparisons of two of its rows.

The published figures bear out every one of these; a test holds them against the figures.
"""

from vdm_bench.reproduction.plan import Claim


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
