"""Datasets: clips by index, the same whenever and wherever they are asked for."""
