"""The outside world: commands, mounts, files, locks, templates, ssh."""
