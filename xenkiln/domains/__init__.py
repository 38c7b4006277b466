"""Where a domain's files lie on its Xen host, and how they get there."""
