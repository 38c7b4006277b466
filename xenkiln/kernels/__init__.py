"""Kernels, from a package, the host or files, and looking into the ramdisks made for them."""
