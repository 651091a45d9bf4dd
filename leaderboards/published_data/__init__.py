"""Published results as their papers state them (CSV), and how to cite the papers (BibTeX)."""
