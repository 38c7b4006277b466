"""The verbs besides the stages: one module each, its name is the task's name."""
