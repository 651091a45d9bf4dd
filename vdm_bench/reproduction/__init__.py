"""The tables of Ho et al. 2022 (arXiv 2204.03458) reproduced: the runs that each needs, and what they show."""
