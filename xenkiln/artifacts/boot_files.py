"""Kernel, ramdisk and a boot loader's menu inside the image: what pygrub and the old GRUB read."""

from __future__ import annotations

from pathlib import Path

from xenkiln.system.execution import write_file
from xenkiln.system.files import resolve_in_root
from xenkiln.system.steps import Write
from xenkiln.system.templates import render_template

MENU = "/boot/grub/menu.lst"


def render_menu(title: str, version: str, arguments: str, *, partitioned: bool) -> str:
    """The menu in the form of GRUB 0.97, which pygrub looks for first.

    `partitioned` tells where the old GRUB finds the filesystem: in the first partition, or on the disk itself.
    """
    place = "(hd0,0)" if partitioned else "(hd0)"
    values = {"title": title, "version": version, "arguments": arguments, "place": place}
    return render_template("boot/menu.lst.j2", values)


def place_boot_files(root: Path, version: str, vmlinuz: Path, initrd: Path, menu: str) -> None:
    """Put them into /boot of the tree at `root`; a kernel that its package put there already is left alone."""
    kernel = f"/boot/vmlinuz-{version}"
    present = resolve_in_root(root, kernel)
    if not present.is_file() or present.read_bytes() != vmlinuz.read_bytes():
        write_file(Write(kernel, vmlinuz.read_bytes(), root=root))
    write_file(Write(f"/boot/initrd.img-{version}", initrd.read_bytes(), mode=0o600, root=root))
    write_file(Write(MENU, menu, root=root))
