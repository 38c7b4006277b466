"""What the user takes away: filesystems, boot files, shapes, checksums, the bill of materials, comparing.

This room lies between `stages`, which say when something is made, and `system`, which does it.
"""
