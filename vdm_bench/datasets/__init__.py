"""Datasets: clips by index, identical on every machine and in every run."""
