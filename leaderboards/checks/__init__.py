"""Regression checks: one run compared with another, or with a baseline."""
