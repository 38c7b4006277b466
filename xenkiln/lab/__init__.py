"""Real Xen in qemu, on any machine: a host to boot images on, its network, its small cloud, and what goes wrong."""
