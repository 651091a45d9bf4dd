"""What the suite does not do every day: kills, rot, races, surroundings, children and fuzz, by the hundred.

`python -m torture` from `tests/support/`, or `tox run -e torture`; `docs/reliability.md` says what is promised,
and what of it is tried here. Each case is drawn from a seed and its own name, so that it can be repeated alone.
"""
