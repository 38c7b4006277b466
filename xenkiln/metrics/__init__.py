"""What was measured, whoever measured it: one type for all; the sources live with what they talk to."""
