"""The image's own /boot: the menu's text, and trees that point elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from xenkiln.artifacts.boot_files import place_boot_files, render_menu

VERSION = "6.1.0-1-cloud-amd64"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    vmlinuz, initrd = tmp_path / "vmlinuz", tmp_path / "initrd.img"
    vmlinuz.write_bytes(b"kernel")
    initrd.write_bytes(b"ramdisk")
    return vmlinuz, initrd


def test_the_menu_is_one_that_the_old_grub_reads() -> None:
    assert render_menu("guest", VERSION, "root=/dev/xvda1 ro console=hvc0", partitioned=True) == (
        "# Read by pygrub on the Xen host, and by a GRUB 0.97 in the guest.\n"
        "default 0\ntimeout 1\n\n"
        "title guest, Linux 6.1.0-1-cloud-amd64\n"
        "\troot (hd0,0)\n"
        "\tkernel /boot/vmlinuz-6.1.0-1-cloud-amd64 root=/dev/xvda1 ro console=hvc0\n"
        "\tinitrd /boot/initrd.img-6.1.0-1-cloud-amd64\n"
    )


def test_without_partitions_the_disk_is_the_filesystem() -> None:
    assert "\troot (hd0)\n" in render_menu("guest", VERSION, "root=/dev/sda1", partitioned=False)


@pytest.mark.root
def test_kernel_ramdisk_and_menu_are_placed(tmp_path: Path, files: tuple[Path, Path]) -> None:
    root = tmp_path / "root"
    root.mkdir()
    place_boot_files(root, VERSION, *files, "menu")
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert found == {f"boot/vmlinuz-{VERSION}": b"kernel", f"boot/initrd.img-{VERSION}": b"ramdisk",
                     "boot/grub/menu.lst": b"menu"}  # fmt: skip


@pytest.mark.root
def test_a_kernel_that_is_there_already_is_not_touched(tmp_path: Path, files: tuple[Path, Path]) -> None:
    kernel = tmp_path / "root/boot" / f"vmlinuz-{VERSION}"
    kernel.parent.mkdir(parents=True)
    kernel.write_bytes(b"kernel")
    before = kernel.stat()
    place_boot_files(tmp_path / "root", VERSION, *files, "menu")
    assert (kernel.stat().st_ino, kernel.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.root
@pytest.mark.parametrize("linked", ["boot", "boot/grub", "boot/grub/menu.lst", f"boot/vmlinuz-{VERSION}"])
def test_a_link_in_the_tree_does_not_lead_to_the_host(tmp_path: Path, files: tuple[Path, Path], linked: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("precious")
    link = tmp_path / "root" / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(victim / "file" if link.suffix or "vmlinuz" in linked else victim)
    place_boot_files(tmp_path / "root", VERSION, *files, "menu")
    assert [path.name for path in victim.iterdir()] == ["file"]
    assert (victim / "file").read_text() == "precious"
