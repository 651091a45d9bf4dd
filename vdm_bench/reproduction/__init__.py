"""The tables of Ho et al. 2022 (arXiv 2204.03458) made again: the runs each needs, and what comes of them."""
