"""The version of this package, as in records and signatures."""

__version__ = "0.1.0"
