"""xenkiln: from a recipe to a Xen guest image, bit for bit, and on to the clouds that run it."""

__version__ = "0.1.0"
