"""How packages are resolved, fetched and installed: one module per package manager."""
