"""Are records the same as before a change? Miniatures of each kind of run, in this checkout and another revision.

    python benchmarks/same_records.py REVISION

Each revision runs all miniatures in a process and with a cache of its own. Records and plans must then be equal
but for times and what describes the machine. This checkout also opens each run folder of the other revision: it
must find the run complete, or refuse it if the file of its sampler has changed. Exit code 1 if anything differs.
About a minute.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

# Uses public names alone, as it runs in both revisions.
RUNS = """
import sys
from pathlib import Path
from vdm_bench import run
from vdm_bench.cli import cli
from vdm_bench.errors import InputError
from vdm_bench.protocols import get_protocol

def small(name, **changes):
    return get_protocol(name).model_copy(update={"generated_count": 80, "reference_count": 96, **changes})

folder = Path(sys.argv[1])
plain, prediction = small("shapes-unconditional"), small("shapes-prediction")
rounds = small("shapes-prediction", condition_count=20, rounds="averaged")
model = {"checkpoint": "shapes", "steps": "2", "labels": "random"}
cli(["data", "export-reference", "shapes-unconditional", "--out", str(folder / "reference.safetensors")],
    standalone_mode=False) if not (folder / "reference.safetensors").exists() else None
whole = get_protocol("shapes-unconditional").model_copy(update={"generated_count": 80})
miniatures = {
    "unconditional": (plain, {"sampler": "blurred"}),
    "limited": (plain, {"sampler": "noise", "limit": 70, "seed": 3, "name": "mine"}),
    "class": (small("shapes-class"), {"sampler": "real"}),
    "text": (small("shapes-text"), {"sampler": "shuffled-frames"}),
    "prediction with frame metrics": (prediction, {"sampler": "copy-last-frame"}),
    "prediction in rounds": (rounds, {"sampler": "blurred", "limit": 60}),
    "reference model": (small("shapes-class"), {"sampler": "reference", "options": model, "limit": 4}),
    "existing clips": (small("shapes-unconditional", generated_count=90), {"clips": "runs/unconditional"}),
    "existing predictions": (prediction, {"clips": "runs/prediction with frame metrics"}),
    "statistics file": (whole, {"sampler": "noise", "reference_stats": "reference.safetensors"}),
}
for name, (protocol, keywords) in miniatures.items():
    try:
        run(protocol, out=folder / "runs" / name, **keywords)
    except InputError as error:
        print(error)
"""


def run_all(checkout: Path, folder: Path, cache: Path) -> list[str]:
    """Run all miniatures with the package of a checkout; return why some were refused."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "VDM_BENCH_CACHE": str(cache),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    command = [sys.executable, "-c", RUNS, "."]
    done = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return [line for line in done.stdout.splitlines() if "features of" not in line]


def contents(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the records and plans of all miniatures, without times and what describes the machine."""
    found = {}
    for path in sorted(folder.glob("runs/*/*.json")):
        content = json.loads(path.read_text("utf-8"))
        for key in ("checksum", "created", "environment", "sampler code"):
            content.pop(key, None)
        if "timing_seconds" in content:
            content["timing_seconds"] = list(content["timing_seconds"])
        found[str(path.relative_to(folder / "runs"))] = content
    return found


def unlike(before: Any, after: Any, place: str = "") -> list[str]:
    """Name the places where two contents differ, with both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before, *(key for key in after if key not in before)]
        return [line for key in keys for line in unlike(before.get(key), after.get(key), f"{place} {key}")]
    return [] if before == after else [f"{place}: {before!r} before, {after!r} now"]


def main() -> None:
    """Run all miniatures twice, and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", help="the other revision, as git names it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        other, folder, cache = Path(scratch, "other"), Path(scratch, "work"), Path(scratch, "cache")
        folder.mkdir()
        subprocess.run(["git", "-C", ROOT, "archive", given.revision, "-o", Path(scratch, "tar")], check=True)
        with tarfile.open(Path(scratch, "tar")) as file:
            file.extractall(other, filter="tar")
        lines = run_all(other, folder, cache)
        before = contents(folder)
        dates = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/run.json")}
        refused = run_all(ROOT, folder, cache)
        again = [str(path) for path, date in dates.items() if path.stat().st_mtime_ns != date]
        folder.rename(Path(scratch, "before"))
        folder.mkdir()
        lines += run_all(ROOT, folder, Path(scratch, "another cache"))
        lines += unlike(before, contents(folder))
    lines += [f"{path} was not found complete" for path in again]
    # A run does not resume with a sampler whose file has changed; that is right.
    changed = [line for line in refused if "another sampler code" in line]
    print(*(f"refused: {line}" for line in changed), sep="\n", end="\n" if changed else "")
    lines += [line for line in refused if line not in changed]
    print(*lines or [f"{len(before)} records and plans are the same"], sep="\n")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
