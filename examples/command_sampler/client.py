"""The client of a sampler in another environment. Copy this file; it needs only NumPy.

    import client

    def make(request):                       # a request: some clips, all of one size
        clips = np.empty((len(request.seeds), request.frames, request.height, request.width, 3), np.uint8)
        for i, seed in enumerate(request.seeds):
            clips[i] = ...                   # from seed i (and context[i], labels[i], captions[i]) alone
        return clips                         # uint8 [N, T, H, W, 3], RGB

    client.serve(make)                       # or serve(prepare=...), see below

Then: vdm-bench run PROTOCOL --sampler-command "/path/to/its/python sampler.py" --option steps=64

A request has: indices; seeds, one integer per clip; frames, height, width; context, uint8 [N, K, H, W, 3], the
frames that the clips must begin with, or None; labels, a list of integers, or None; captions, a list of texts, or
None.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

VERSION = 1

Make = Callable[[SimpleNamespace], Any]


def serve(make: Make | None = None, *, prepare: Callable[[dict[str, str]], Make] | None = None) -> None:
    """Answer requests until there are no more.

    Args:
        make: a function of a request that returns its clips.
        prepare: a function of the options (texts by name) that returns `make`; it can load a model once.
    """
    scratch = Path()
    # Standard output is for answers; anything else printed there goes to stderr.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(**message: Any) -> None:
        print(json.dumps(message), file=answers, flush=True)

    try:
        for line in sys.stdin:
            message = json.loads(line)
            if message["type"] == "hello":
                scratch = Path(message["scratch"])
                make = prepare(message["options"]) if prepare else make
                answer(type="ready", version=VERSION)
            else:
                answer(type="done", number=message["number"], clips=_make(make, message, scratch))
    except Exception as error:
        traceback.print_exc()
        answer(type="error", message=f"{type(error).__name__}: {error}")


def _make(make: Make | None, message: dict[str, Any], scratch: Path) -> str:
    if make is None:
        raise TypeError("serve() needs a function that makes clips")
    request = SimpleNamespace(**message)
    if request.context is not None:
        request.context = np.load(scratch / request.context, allow_pickle=False)
    name = f"{request.number}.npy"
    np.save(scratch / name, np.asarray(make(request)), allow_pickle=False)
    return name
