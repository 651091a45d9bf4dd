"""A small dataset of moving shapes that is drawn, not downloaded."""
