"""Tables of records, comparisons and checks, and the formats they are written in."""
