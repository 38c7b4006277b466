"""One small module per doit stage; its name is the task's name."""
