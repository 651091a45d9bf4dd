"""Names of the choices for networks and statistics; the modules that apply them say more."""

from typing import Literal, get_args

ResizeRule = Literal["tf1-bilinear", "half-pixel", "align-corners", "antialias"]
Aspect = Literal["stretch", "center-crop", "short-side"]
Padding = Literal["same", "static"]
Precision = Literal["fp32", "tf32", "bf16"]
Root = Literal["factor", "tf-gan", "tf-gan-fp32"]
SplitOrder = Literal["permuted", "given"]
Estimator = Literal["unbiased", "biased"]
Measure = Literal["precision", "recall", "density", "coverage"]

RESIZE_RULES: tuple[ResizeRule, ...] = get_args(ResizeRule)
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
PADDINGS: tuple[Padding, ...] = get_args(Padding)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

SSIM_WINDOW = 11  # pixels
