"""Seeded changes of valid files: flipped bits, and lengths and checksums that are right about what is wrong."""

import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from vdm_bench.runtime.checksums import CHECKSUM, array_checksum, checksum, sealed

Change = Callable[[random.Random, bytes], bytes]

# Instead of a number, and of any value in JSON, TOML or CSV.
NUMBERS = (
    *(
        "1e999",
        "-1e999",
        "inf",
        "-inf",
        "nan",
        "Infinity",
        "-Infinity",
        "NaN",
        "-1",
        "0",
        "1e308",
        "0x10",
        "1_000",
    ),
    *("9" * 5000, "9" * 30, "9223372036854775808", "-9223372036854775809", "4294967296", "0.5", "1e-400", "٣"),
)
TEXTS = (
    *(
        "",
        " ",
        "n" * 300,
        "../" * 20 + "etc/passwd",
        "/",
        "/dev/null",
        "..",
        ".",
        "a\0b",
        "\ud800",
        "\u202e\x1b[2J",
    ),
    *("::error::x", "=1+1", "\ufeff", "\u2028", "a\r\nb", '"', "'", "%s{0}", "*", "|", "\x85"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**400, 0.5, 1e308, "", "x", [], {}, [None], [[]]),
    *({"": 0}, [1, 2, 3], ["a", "b"], {"a": {"a": None}}),
)
DEEP = 3000


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Change a file, most often in a way that its format suggests.

    Args:
        rng: decides all.
        data: the file.
        other: another file, parts of which may be taken.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        known = _changes_for(data)
        change = rng.choice(known) if known and rng.random() < 0.7 else rng.choice(_BYTES)
        data = _spliced(rng, data, other) if change is None else change(rng, data)
    return data


def _changes_for(data: bytes) -> list[Change]:
    if data[:1] in (b"{", b"["):
        return [_json, _json, _text]
    if data[8:9] == b"{":
        return [_safetensors_header, _safetensors_facts, _safetensors_facts, _tensors]
    if data[:6] == b"\x93NUMPY":
        return [_npy_header]
    if data[:4] == b"PK\x03\x04":
        return [_npz, _npz_record]
    if _is_text(data):
        return [_text]
    if data[8:12] != b"" and struct.unpack("<Q", data[:8].ljust(8, b"\0"))[0] + 16 <= len(data) < 2**24:
        return [_record]
    return []


def _is_text(data: bytes) -> bool:
    try:
        return data.decode().replace("\n", "").replace("\r", "").replace("\t", "").isprintable()
    except UnicodeDecodeError:
        return False


# --- any bytes


def _flip(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 8))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _place(rng: random.Random, data: bytes) -> int:
    """Choose a place, half of the time near the beginning, where headers are."""
    return rng.randrange(min(len(data), 64) + 1) if rng.random() < 0.5 else rng.randrange(len(data) + 1)


def _run(rng: random.Random, data: bytes) -> bytes:
    start, length = _place(rng, data), rng.choice((1, 2, 4, 8, 64))
    run = rng.choice((b"\0" * length, b"\xff" * length, b"\x80" * length, rng.randbytes(length)))
    return data[:start] + run + data[start + length :]


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: _place(rng, data)]


def _without(rng: random.Random, data: bytes) -> bytes:
    start = _place(rng, data)
    return data[:start] + data[start + rng.choice((1, 4, 100)) :]


def _insert(rng: random.Random, data: bytes) -> bytes:
    start = _place(rng, data)
    new = rng.choice(
        (b"\0", b"\xff\xfe", rng.randbytes(16), b"[" * DEEP, b'{"a":' * DEEP, b"\xef\xbb\xbf", b"\r")
    )
    return data[:start] + new + data[start:]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    start = _place(rng, data)
    stop = start + rng.choice((1, 16, 256, len(data)))
    return data[:stop] + data[start:stop] + data[stop:]


def _empty(rng: random.Random, data: bytes) -> bytes:
    return b""


def _spliced(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: _place(rng, data)] + other[_place(rng, other) :]


_BYTES: tuple[Change | None, ...] = (_flip, _flip, _run, _run, _cut, _without, _insert, _repeat, _empty, None)


# --- text


def _text(rng: random.Random, data: bytes) -> bytes:
    """Put another number, text or deep brackets in the place of a word, or lose a line."""
    kind = rng.randrange(5)
    if kind == 0:
        pattern, new = rb"-?\d+(\.\d+)?", rng.choice(NUMBERS).encode()
    elif kind == 1:
        pattern, new = rb"[\w./ -]+", rng.choice(TEXTS).encode("utf-8", "surrogatepass")
    elif kind == 2:
        pattern, new = (
            rb"[^,=:\n]+",
            rng.choice((b"[" * DEEP, b'{"a":' * DEEP, b"{a=" * DEEP, b"[" * DEEP + b"]" * DEEP)),
        )
    elif kind == 3:
        pattern, new = rb"[^\n]*\n", b""
    else:
        pattern, new = rb"[,=:\n\"\[\]{}]", rng.choice((b"", b",,", b'"', b"=", b"\0", b"\xff", b"\n\n", b"\t"))
    found = list(re.finditer(pattern, data))
    if not found:
        return _insert(rng, data)
    place = rng.choice(found)
    return data[: place.start()] + new + data[place.end() :]


# --- JSON


def _json(rng: random.Random, data: bytes) -> bytes:
    """Take a value away, or put another one in its place; checksums are mostly made right again."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return _flip(rng, data)
    changed, raw = change_json(rng, content)
    if rng.random() < 0.8 and isinstance(changed, dict) and CHECKSUM in changed:
        del changed[CHECKSUM]
        changed = _sealed(changed)
    return _dumped(changed, raw)


_RAW = "raw value"


def change_json(rng: random.Random, content: Any) -> tuple[Any, str]:
    """Change one value; where it shall be no JSON of Python's, `_RAW` stands for the text that is given, too."""
    places: list[tuple[Any, Any]] = [([content], 0)]
    stack = [content]
    while stack:
        holder = stack.pop()
        keys = (
            list(holder)
            if isinstance(holder, dict)
            else list(range(len(holder)))
            if isinstance(holder, list)
            else []
        )
        places += [(holder, key) for key in keys]
        stack += [holder[key] for key in keys]
    holder, key = rng.choice(places[1:] or places)
    raw, kind = "", rng.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[rng.choice(TEXTS)] = holder.pop(key)
    elif kind == 2:
        raw = rng.choice((*NUMBERS, "[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP, '{"a":1,"a":2}'))
        holder[key] = _RAW
    elif kind == 3:
        holder[key] = rng.choice(TEXTS)
    elif kind == 4 and isinstance(holder[key], int | float):
        holder[key] = rng.choice(
            (-holder[key], holder[key] * 10**9, float(holder[key]), str(holder[key]), holder[key] + 1)
        )
    else:
        holder[key] = rng.choice(VALUES)
    return (places[0][0][0] if holder is not places[0][0] else (holder or [None])[0]), raw


def _dumped(content: Any, raw: str) -> bytes:
    return json.dumps(content).replace(json.dumps(_RAW), raw or "0").encode("utf-8", "surrogatepass")


def _sealed(content: dict[str, Any]) -> dict[str, Any]:
    try:
        return sealed(content)
    except (ValueError, TypeError):
        return content


# --- safetensors


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if not isinstance(header, dict):
        raise KeyError("no header")
    return header, data[8 + length :]


def _joined(header: bytes, rest: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + rest


def _safetensors_header(rng: random.Random, data: bytes) -> bytes:
    try:
        header, rest = _split(data)
    except (ValueError, RecursionError, KeyError):
        return _flip(rng, data)
    return _joined(_dumped(*change_json(rng, header)), rest)


def _safetensors_facts(rng: random.Random, data: bytes) -> bytes:
    """Change the JSON that stands as a text in the header, and make the checksums right again, mostly."""
    try:
        header, rest = _split(data)
        metadata = header["__metadata__"]
        key = rng.choice(sorted(metadata))
        sums, facts = _parts(metadata[key])
        facts = _dumped(*change_json(rng, json.loads(facts))).decode("utf-8", "replace")
    except (ValueError, RecursionError, KeyError, TypeError, IndexError, AttributeError):
        return _safetensors_header(rng, data)
    metadata[key] = _stored(sums, facts, honest=rng.random() < 0.8)
    return _joined(json.dumps(header).encode("utf-8", "replace"), rest)


def _parts(text: str) -> tuple[str | None, str]:
    """Take a text of a header apart: the checksums of the arrays, where there are any, and the facts."""
    first, _, rest = text.partition("\n")
    if not rest:
        return None, first
    sums, _, facts = rest.partition("\n")
    return sums, facts


def _stored(sums: str | None, facts: str, *, honest: bool) -> str:
    """Put a text of a header together again, with a checksum of it all that is right, or is not."""
    if sums is None:
        try:
            content = json.loads(facts)
            return json.dumps(_sealed(content)) if honest and content.pop(CHECKSUM, None) else facts
        except (ValueError, RecursionError, AttributeError):
            return facts
    said = f"{sums}\n{facts}"
    return f"{checksum(said.encode('utf-8', 'replace')) if honest else '0' * 32}\n{said}"


def _tensors(rng: random.Random, data: bytes) -> bytes:
    """Lose a tensor, or make it of another shape, type or content, in a file that is sound otherwise."""
    from safetensors import SafetensorError
    from safetensors.numpy import load, save

    try:
        metadata = dict(_split(data)[0].get("__metadata__", {}))
        arrays = load(data)
        name = rng.choice(sorted(arrays))
    except (ValueError, RecursionError, SafetensorError, IndexError, KeyError, TypeError):
        return _flip(rng, data)
    array = arrays.pop(name)
    changed = (
        array[:-1] if array.ndim else array,
        array.reshape(-1),
        array[None],
        array.astype(np.float64),
        (array.astype(np.int64) * -1),
        np.full_like(array, 255 if array.dtype.kind in "iu" else np.nan),
        array[..., :0],
        np.zeros_like(array),
    )
    choice = rng.randrange(len(changed) + 2)
    if choice < len(changed):
        arrays[name] = np.ascontiguousarray(changed[choice])
    elif choice == len(changed):
        arrays[f"{name} more"] = array
    for key, text in metadata.items():
        sums, facts = _parts(text)
        if sums is not None and rng.random() < 0.8:
            right = {name: array_checksum(name, array) for name, array in sorted(arrays.items())}
            metadata[key] = _stored(json.dumps(right), facts, honest=True)
    return bytes(save(arrays, metadata or None))


# --- NumPy


def _npy_header(rng: random.Random, data: bytes) -> bytes:
    """Change the header as text, its length made right again, mostly."""
    wide = data[6:7] != b"\x01"
    start = 12 if wide else 10
    length = int.from_bytes(data[8:start], "little")
    header, rest = data[start : start + length], data[start + length :]
    new = rng.choice(_NPY_HEADERS) if rng.random() < 0.5 else _text(rng, header)
    if rng.random() < 0.2:
        return data[:start] + new + rest
    return data[:8] + min(len(new), 2 ** (32 if wide else 16) - 1).to_bytes(start - 8, "little") + new + rest


def _npy(descr: str, order: str, shape: str) -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n".encode()


_NPY_HEADERS = (
    *(
        _npy("'|u1'", "False", shape)
        for shape in ("(-1, 4, 16, 16, 3)", "(True, 4, 16, 16, 3)", "(2**60,)", "(0,)")
    ),
    *(
        _npy("'|u1'", "False", shape)
        for shape in ("()", "(1.0, 4)", "'abc'", f"({10**30},)", f"({2**62}, 4, 4, 3)")
    ),
    *(_npy("'|u1'", "True", f"({2**20}, {2**20}, {2**20}, 3)"), _npy("'|u1'", "False", f"({2**33}, 1, 1, 3)")),
    *(
        _npy(descr, "False", "(3, 4, 16, 16, 3)")
        for descr in ("'|O'", "'<M8[ns]'", "'|V0'", "'<f8'", "[('a', '|u1')]")
    ),
    *(_npy(descr, "False", "(3, 4, 16, 16, 3)") for descr in ("'|S0'", "'<U9999999'", "None", "'|u1' * 9")),
    _npy("'<M8[ns]'", "True", "(-1, 4, 16, 16, 3)"),
    b" 8, 3), }\n",
    b"{" * DEEP,
    b"(" * 90 + b")" * 90,
    b"{'descr': '\xff'}",
    b"{1: 2}",
    b"",
    b"'''",
    b"{'shape': (1,), 'fortran_order': False, 'descr': '|u1', 'more': 1}\n",
)


def _npz(rng: random.Random, data: bytes) -> bytes:
    """Write the archive again with a strange method, name or member; all lengths and checksums are right."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            members = {name: file.read(name) for name in file.namelist()}
    except Exception:  # what an earlier change made of it
        return _flip(rng, data)
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    name = rng.choice(sorted(members)) if members else "clips.npy"
    content = members.pop(name, b"")
    if rng.random() < 0.5:
        content = _npy_header(rng, content) if content[:6] == b"\x93NUMPY" else _flip(rng, content)
    if rng.random() < 0.3:
        name = rng.choice(
            ("../clips.npy", "/clips.npy", "clips", ".npy", "x" * 300 + ".npy", "clips.npy/", "arr_0.npy")
        )
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as file:
        for kept, data_of_it in {**members, name: content}.items():
            file.writestr(kept, data_of_it)
    return target.getvalue()


def _npz_record(rng: random.Random, data: bytes) -> bytes:
    """Change a field of the records of an archive: flags (encryption, UTF-8), method, checksum or sizes."""
    changed = bytearray(data)
    signature, places = rng.choice(
        ((b"PK\x01\x02", (6, 8, 10, 16, 20, 24, 28, 42)), (b"PK\x03\x04", (6, 8, 14, 18, 22)))
    )
    starts = [found.start() for found in re.finditer(re.escape(signature), data)]
    if starts:
        at = rng.choice(starts) + rng.choice(places)
        changed[at : at + 2] = rng.choice(
            (b"\x01\x00", b"\x09\x08", b"\x0e\x00", b"\x63\x00", b"\xff\xff", b"\x00\x00")
        )
    return bytes(changed)


# --- TFRecord


def _record(rng: random.Random, data: bytes) -> bytes:
    """Change the data of a record; lengths and checksums are right."""
    import google_crc32c

    def crc(part: bytes) -> bytes:
        value = google_crc32c.value(part)
        return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.unpack("<Q", data[:8])[0]
    content, rest = data[12 : 12 + length], data[16 + length :]
    content = rng.choice((_flip, _run, _cut, _without, _insert, _repeat))(rng, content)
    head = struct.pack("<Q", len(content))
    return head + crc(head) + content + crc(content) + rest
