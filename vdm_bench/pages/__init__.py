"""Pages and tables on disk, with the clips that they show."""
