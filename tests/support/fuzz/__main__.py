"""Feeds changed inputs to every reader: each ends well or in an error of this project, soon and in little memory.

python -m fuzz [--count 20000] [--seed 0] [--out FOLDER] [--reader NAME ...]

Prints totals by reader, and each kind of fault once with its traceback; the first input of each kind is written
to FOLDER, made as small as it still shows the fault. Ends with 1 if there is any.
"""

import argparse
import sys
from pathlib import Path

from fuzz.run import fuzz, minimised, table

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="how many inputs")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--out", type=Path, help="folder for inputs that show a fault")
    parser.add_argument("--reader", action="append", default=[], help="only this one; may be repeated")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="of the processor, for an input")
    parser.add_argument("--megabytes", type=float, default=200.0, help="for an input")
    given = parser.parse_args()
    report = fuzz(
        given.count,
        given.seed,
        given.reader,
        workers=given.workers,
        seconds=given.seconds,
        megabytes=given.megabytes,
    )
    print(table(report))
    for kind, outcomes in report.faults.items():
        print(f"\n{kind}: {len(outcomes)} times, first by input {outcomes[0].number}\n{outcomes[0].detail}")
        if given.out:
            minimised(report, outcomes[0], given.out)
    sys.exit(1 if report.faults else 0)
