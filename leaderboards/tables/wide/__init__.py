"""One table per protocol, with a row per run and a column per metric, and how its numbers were computed."""
