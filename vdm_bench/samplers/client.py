"""The client of a sampler in another environment: copy this file next to it. It needs the standard library alone.

    import client

    def make(request):                       # a request: some clips, all of one size
        clips = np.empty((len(request.seeds), request.frames, request.height, request.width, 3), np.uint8)
        for i, seed in enumerate(request.seeds):
            clips[i] = ...                   # from seed i (and context[i], labels[i], captions[i]) alone
        return clips                         # uint8 [N, T, H, W, 3], RGB

    client.serve(make)                       # or serve(prepare=...), see below

Then: vdm-bench run PROTOCOL --sampler-command "/path/to/its/python sampler.py" --option steps=64

A request has: indices, seeds (one integer per clip), frames, height, width; context, uint8 [N, K, H, W, 3], the
frames that the clips must begin with, or None; labels, a list of integers, or None; captions, a list of strings,
or None. The context is a NumPy array, or a memoryview if NumPy is not installed. Clips are an array, a CPU
tensor, or any other object with a buffer of that shape.
"""

from __future__ import annotations

import ast
import json
import os
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

numpy: Any
try:
    import numpy
except ImportError:
    numpy = None

VERSION = 1

Make = Callable[[SimpleNamespace], Any]


def serve(make: Make | None = None, *, prepare: Callable[[dict[str, str]], Make] | None = None) -> None:
    """Answer requests until there are no more.

    Args:
        make: a function of a request that returns its clips.
        prepare: a function of the options (strings by name) that returns `make`; for loading a model once.
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
        request.context = _read(scratch / request.context)
    name = f"{request.number}.npy"
    _write(scratch / name, make(request))
    return name


def _read(path: Path) -> Any:
    """Read uint8 pixels from a `.npy` file of version 1."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<8xH", file.read(10))
        shape = ast.literal_eval(file.read(length).decode("latin-1"))["shape"]
        pixels = memoryview(bytearray(file.read())).cast("B", shape)
    return pixels if numpy is None else numpy.asarray(pixels)


def _write(path: Path, clips: Any) -> None:
    """Write an array, a tensor or a buffer to a `.npy` file of version 1."""
    array = clips.__array__() if hasattr(clips, "__array__") else clips
    if getattr(getattr(array, "dtype", None), "hasobject", False):
        raise TypeError("clips are an array of objects; return uint8 [N, T, H, W, 3]")
    pixels = memoryview(array)
    kind = array.dtype.str if hasattr(array, "dtype") else {"B": "|u1"}.get(pixels.format, pixels.format)
    header = repr({"descr": kind, "fortran_order": False, "shape": pixels.shape}).encode()
    header = header.ljust(-(len(header) + 11) % 64 + len(header)) + b"\n"
    with path.open("wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        file.write(pixels if pixels.c_contiguous else pixels.tobytes())
