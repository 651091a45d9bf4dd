"""From clips to scores: features, metrics, records."""
