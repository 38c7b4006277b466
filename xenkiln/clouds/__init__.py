"""EC2-compatible clouds: who the user is there."""
