"""Bits that flip in stored files, at places that are drawn."""

import random
from pathlib import Path


def flip(path: Path, draw: random.Random) -> tuple[int, int]:
    """Flip one bit of a file; return its byte and bit."""
    data = bytearray(path.read_bytes())
    place, bit = draw.randrange(len(data)), draw.randrange(8)
    data[place] ^= 1 << bit
    path.write_bytes(data)
    return place, bit
