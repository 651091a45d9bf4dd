"""Names of the rules by which pictures are cut and resized; `resize.py` says what each means."""

from typing import Literal, get_args

ResizeRule = Literal["tf1-bilinear", "half-pixel", "align-corners", "antialias"]
Aspect = Literal["stretch", "center-crop"]

RESIZE_RULES: tuple[ResizeRule, ...] = get_args(ResizeRule)
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
