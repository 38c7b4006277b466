"""Recipes: loading, refusing, and what is said about them."""
