"""deploy:NAME: the image to its Xen host, and started there."""
