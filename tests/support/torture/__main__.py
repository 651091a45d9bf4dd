"""Runs kinds of cases, in a process a core, and prints their totals.

python -m torture [--kinds rot,kills] [--scale 0.05] [--seed 0] [--case KIND/WORK/NUMBER]

Ends with 1 if any case failed; each that did is named, and `--case` repeats it alone, with its files kept.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from torture.findings import Came, table
from torture.running import KINDS, plan, repeat, torture


def main() -> int:
    """Do what the command line says; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kinds", default=",".join(KINDS), help="which, by commas")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the cases, at least one of each work")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--only", default="", help="only works whose name contains this")
    parser.add_argument("--case", help="one case alone")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    given = parser.parse_args()
    if given.case:
        folder = Path(tempfile.mkdtemp(prefix="torture-"))
        finding = repeat(given.case, given.seed, folder)
        print(f"{finding.case}: {finding.came.value} {finding.said}\nits files are in {folder}")
        return int(finding.came is Came.FAILED)
    kinds = given.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"there is no kind {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    findings = []
    with tempfile.TemporaryDirectory(prefix="torture-") as scratch:
        for done in torture(plan(kinds, given.scale, given.only), given.seed, Path(scratch), given.workers):
            findings += done.findings
            failed = [finding for finding in done.findings if finding.came is Came.FAILED]
            print(f"{done.name}: {done.seconds:.0f} s, {len(failed)} failed", file=sys.stderr, flush=True)
            for finding in failed:
                print(f"  {finding.case} --seed {given.seed}: {finding.said}", file=sys.stderr, flush=True)
    print(table(findings))
    return int(any(finding.came is Came.FAILED for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
