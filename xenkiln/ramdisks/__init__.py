"""How a ramdisk is made: one module per tool, found by the recipe's `ramdisk.maker`."""
