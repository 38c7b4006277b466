"""The tiny family: what it writes into a guest, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from repositories import make_context

from xenkiln.families import tiny
from xenkiln.families.contract import Guest
from xenkiln.model.configure import Configure
from xenkiln.model.domain import Domain
from xenkiln.model.image import Disks, ImageRecipe, Kernel
from xenkiln.system.execution import run_steps
from xenkiln.system.steps import Do, Step, Write

ROOT = Path("/nowhere/root")
RICH: dict[str, Any] = {
    "disks": {
        "root": {"size_mib": 96, "mount_options": "noatime"},
        "swap": {"size_mib": 64, "device": "xvda2"},
        "extra": (
            {"name": "data", "size_mib": 64, "device": "xvdb1", "mount": "/srv/data"},
            {"name": "scratch", "size_mib": 64, "device": "xvdb2", "mount": "/mnt", "ephemeral": True},
        ),
    },
    "configure": {
        "hostname": "box.example.org",
        "variables": {},
        "network": {
            "interfaces": (
                {"name": "eth0", "method": "static", "address": "10.0.2.50/24"},
                {"name": "eth1"},
                {"name": "eth2", "method": "static", "address": "192.0.2.9/28"},
            ),
            "gateway": "10.0.2.2",
            "dns": ("10.0.2.3", "2001:db8::1"),
        },
        "mounts": ({"what": "tmpfs", "where": "/tmp", "type": "tmpfs", "options": "size=16m"},),
        "load_modules": ("loop",),
    },
}
PLAIN: dict[str, Any] = {
    "disks": {"root": {"size_mib": 96}},
    "configure": {"hostname": "tiny", "fetch_metadata": True, "variables": {}},
}


def make_guest(data: dict[str, Any], console: str = "hvc0") -> Guest:
    disks, configure = Disks.model_validate(data["disks"]), Configure.model_validate(data["configure"])
    return Guest("tiny", "1", "x86_64", disks, Kernel(), configure, console, "/dev/xvda1")


def list_files(steps: list[Step]) -> dict[str, str]:
    return {str(step.path): str(step.content) for step in steps if isinstance(step, Write)}


def configure(data: dict[str, Any], console: str = "hvc0") -> dict[str, str]:
    return list_files(list(tiny.make_configure_steps(make_guest(data, console), ROOT)))


def test_the_default_guest() -> None:
    files = configure(PLAIN)
    assert files["/etc/fstab"] == (
        "/dev/xvda1 / ext4 defaults 1 1\n"
        "devpts /dev/pts devpts gid=5,mode=620 0 0\n"
        "tmpfs /dev/shm tmpfs nosuid,nodev 0 0\n"
    )
    assert files["/etc/network/interfaces"] == (
        "# ifupdown's format, read by busybox ifup.\n"
        "auto lo\niface lo inet loopback\n\n"
        "auto eth0\niface eth0 inet dhcp\n"
        "    script /usr/share/udhcpc/default.script\n"
        "    udhcpc_opts -b -S -t 8 -T 1 -A 10 -O search\n"
    )
    assert (files["/etc/hostname"], files["/etc/modules"]) == ("tiny\n", "xen-netfront\n")
    assert "\nhvc0::respawn:/sbin/getty -L 38400 hvc0 vt100\n" in files["/etc/inittab"]
    assert "/etc/meta-data.conf" in files
    assert "/etc/resolv.conf" not in files


def test_a_guest_with_everything() -> None:
    files = configure(RICH, console="tty1")
    assert files["/etc/fstab"] == (
        "/dev/xvda1 / ext4 noatime 1 1\n"
        "/dev/xvda2 none swap sw 0 0\n"
        "/dev/xvdb1 /srv/data ext4 defaults 0 2\n"
        "/dev/xvdb2 /mnt ext4 defaults,nofail 0 2\n"
        "devpts /dev/pts devpts gid=5,mode=620 0 0\n"
        "tmpfs /dev/shm tmpfs nosuid,nodev 0 0\n"
        "tmpfs /tmp tmpfs size=16m 0 0\n"
    )
    assert files["/etc/network/interfaces"].split("auto eth0\n")[1] == (
        "iface eth0 inet static\n    address 10.0.2.50\n    netmask 255.255.255.0\n    gateway 10.0.2.2\n\n"
        "auto eth1\niface eth1 inet dhcp\n"
        "    script /usr/share/udhcpc/default.script\n"
        "    udhcpc_opts -b -S -t 8 -T 1 -A 10 -O search\n\n"
        "auto eth2\niface eth2 inet static\n    address 192.0.2.9\n    netmask 255.255.255.240\n"
    )
    assert files["/etc/resolv.conf"] == "nameserver 10.0.2.3\nnameserver 2001:db8::1\n"
    assert files["/etc/hosts"] == "127.0.0.1 localhost\n127.0.1.1 box.example.org box\n::1 localhost\n"
    assert files["/etc/modules"] == "xen-netfront\nloop\n"
    assert "\ntty1::respawn:/sbin/getty -L 38400 tty1 vt100\n" in files["/etc/inittab"]
    assert "/etc/meta-data.conf" not in files


def test_what_fstab_mounts_has_a_folder_to_be_mounted_on(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    steps = tiny.make_configure_steps(make_guest(RICH), tmp_path / "root")
    run_steps([step for step in steps if isinstance(step, Do) and "mount points" in step.why], make_context(tmp_path))
    for place in ("srv/data", "mnt", "tmp"):
        assert (tmp_path / "root" / place).is_dir()


def test_every_file_is_written_inside_the_root() -> None:
    steps = [step for step in tiny.make_configure_steps(make_guest(RICH), ROOT) if isinstance(step, Write)]
    assert steps
    assert all(step.root == ROOT for step in steps)


def test_the_kernel_speaks_on_the_guests_console() -> None:
    assert tiny.get_kernel_arguments(make_guest(PLAIN), Domain()) == "console=hvc0"
    assert tiny.get_kernel_arguments(make_guest(PLAIN, "tty1"), Domain()) == "console=tty1"


@pytest.mark.parametrize("filesystem", ["ext2", "ext3", "ext4"])
def test_profiles_name_every_feature_once(filesystem: str) -> None:
    profile = tiny.get_filesystem_profile("1", filesystem)
    assert len(set(profile.features)) == len(profile.features)
    assert ("has_journal" in profile.features) == (filesystem != "ext2")
    assert ("extent" in profile.features) == (filesystem == "ext4")


def make_recipe(**changes: Any) -> ImageRecipe:
    data: dict[str, Any] = {
        "summary": "a tiny guest", "family": "tiny", "release": "1", "arch": "x86_64", "packages": {},
        "ramdisk": {"maker": "busybox"}, "kernel": {"source": "package"}, **PLAIN,
    }  # fmt: skip
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = data
        for parent in parents:
            place[parent] = dict(place.get(parent, {}))
            place = place[parent]
        place[last] = value
    return ImageRecipe.model_validate(data)


def test_the_default_recipe_has_no_problems() -> None:
    assert tiny.find_recipe_problems(make_recipe()) == []


@pytest.mark.parametrize(
    ("change", "value", "fact"),
    [
        ("release", "2", "no release 2"),
        ("arch", "i386", "x86_64 only"),
        ("configure__network", {"manager": "networkd"}, "busybox"),
        ("disks__root", {"size_mib": 96, "grow": True}, "no resize2fs"),
        ("ramdisk", {"maker": "mkinitramfs"}, "must be busybox"),
        ("configure__timezone", "Europe/Amsterdam", "no time zones"),
        ("configure__disable_tls", True, "no /lib/tls"),
        ("configure__sources", {"apt": ("deb http://example.org/ x main",)}, "no package manager"),
    ],
)
def test_what_tiny_cannot_do_is_refused_with_its_place(change: str, value: object, fact: str) -> None:
    problems = tiny.find_recipe_problems(make_recipe(**{change: value}))
    assert len(problems) == 1
    assert problems[0][0][0] == change.split("__", maxsplit=1)[0]
    assert fact in problems[0][1]
