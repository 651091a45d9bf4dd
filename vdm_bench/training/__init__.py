"""Training data and previews for the reference model."""
