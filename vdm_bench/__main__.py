"""Run the command line: `python -m vdm_bench`."""

from vdm_bench.cli import main

main()
