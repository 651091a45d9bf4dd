"""A run of a protocol: its plan, its stages, what becomes of it."""
