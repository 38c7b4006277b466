"""How a distribution is configured: one module each, found by the recipe's `family`."""
