"""Presets: a TOML file each, with the figures of the paper's appendix A."""
