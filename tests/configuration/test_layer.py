"""What of a configured layer makes a new ramdisk: what one could contain, and nothing else."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from xenkiln.configuration.layer import OPAQUE, count_changes, digest_for_ramdisk


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    for name in ("etc/modules", "etc/motd", "etc/fstab", "root/.ssh/authorized_keys", "rootfs/file",
                 "var/log/dpkg.log", "home/alice/x"):  # fmt: skip
        path = tmp_path / "upper" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "upper/etc/link").symlink_to("motd")
    return tmp_path / "upper"


@pytest.mark.parametrize("name", ["etc/motd", "root/.ssh/authorized_keys", "var/log/dpkg.log", "home/alice/x"])
def test_what_no_ramdisk_holds_keeps_the_digest(name: str, upper: Path) -> None:
    before = digest_for_ramdisk(upper)
    (upper / name).write_text("changed")
    if not name.startswith("etc"):
        (upper / name).with_name("new").write_text("new")
    (upper / name).chmod(0o600)
    assert digest_for_ramdisk(upper) == before


@pytest.mark.parametrize("name", ["etc/modules", "etc/fstab", "rootfs/file"])
def test_what_a_ramdisk_may_hold_changes_the_digest(name: str, upper: Path) -> None:
    seen = {digest_for_ramdisk(upper)}
    (upper / name).write_text("changed")
    seen.add(digest_for_ramdisk(upper))
    (upper / name).chmod(0o755)
    seen.add(digest_for_ramdisk(upper))
    (upper / name).rename((upper / name).with_name("renamed"))
    seen.add(digest_for_ramdisk(upper))
    assert len(seen) == 4


def test_what_a_maker_does_not_read_keeps_the_digest_of_that_maker(upper: Path) -> None:
    unread, before = ("etc/modules",), digest_for_ramdisk(upper, ("etc/modules",))
    (upper / "etc/modules").write_text("changed")
    assert digest_for_ramdisk(upper, unread) == before
    (upper / "etc/fstab").write_text("changed")
    assert digest_for_ramdisk(upper, unread) != before


@pytest.mark.parametrize("hook", ["etc/initramfs-tools/hooks/copy-key", "etc/dracut.conf.d/key.conf",
                                  "usr/lib/dracut/modules.d/99key/module-setup.sh", "etc/crypttab"])  # fmt: skip
@pytest.mark.parametrize("name", ["root/rescue.key", "home/alice/x", "opt/tool", "etc/ssh/sshd_config"])
def test_with_a_hook_of_the_recipe_everything_counts(name: str, hook: str, upper: Path) -> None:
    """A hook may copy any file into the ramdisk."""
    for path in (upper / name, upper / hook):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("first")
    before = digest_for_ramdisk(upper)
    (upper / name).write_text("second")
    assert digest_for_ramdisk(upper) != before


def test_where_a_link_leads_counts(upper: Path) -> None:
    before = digest_for_ramdisk(upper)
    (upper / "etc/link").unlink()
    (upper / "etc/link").symlink_to("fstab")
    assert digest_for_ramdisk(upper) != before


def test_no_file_is_taken_into_memory_whole(upper: Path) -> None:
    """A database or a disk of a guest may be sparse and far larger than this host's memory."""
    os.truncate(upper / "etc/modules", 64 << 20)
    tracemalloc.start()
    digest_for_ramdisk(upper)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_times_do_not_count(upper: Path) -> None:
    before = digest_for_ramdisk(upper)
    os.utime(upper / "etc/fstab", (1, 1))
    assert digest_for_ramdisk(upper) == before


@pytest.mark.root
def test_deleting_what_lies_below_counts(upper: Path) -> None:
    """Removed files are device nodes in the layer, replaced folders have an attribute: both need root."""
    before = digest_for_ramdisk(upper)
    os.mknod(upper / "etc/crypttab", 0o020000, os.makedev(0, 0))
    removed = digest_for_ramdisk(upper)
    os.setxattr(upper / "rootfs", OPAQUE, b"y")
    assert len({before, removed, digest_for_ramdisk(upper)}) == 3


def test_changes_are_counted(upper: Path) -> None:
    assert count_changes(upper) == "8 files changed"
