"""Captions as text embeddings."""
