"""Package repositories that are made on this host: one folder each, found by the repository's name."""
