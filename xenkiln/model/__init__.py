"""Recipes and records as typed, frozen data."""
