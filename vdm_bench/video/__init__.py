"""Clips in and out: decoding, views, archives, writing."""
