"""What this family refuses, and what its steps leave in a tree."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from repositories import make_context

from xenkiln.errors import BuildError
from xenkiln.families import redhat
from xenkiln.families.contract import Guest
from xenkiln.families.redhat_releases import RELEASES, find_release
from xenkiln.model.configure import Configure
from xenkiln.model.domain import Domain
from xenkiln.model.image import Disks, ImageRecipe, Kernel
from xenkiln.system.execution import run_steps
from xenkiln.system.layout import PROJECT
from xenkiln.system.steps import Do, Run, Step, Write

CONSOLES = {release.major: release.xen_console for release in RELEASES.values()}


def make_recipe(release: str = "7.9.2009", **changes: Any) -> ImageRecipe:
    """A recipe that is right for its release, but for the changes."""
    major = int(release.partition(".")[0])
    parts: dict[str, Any] = {
        "summary": "A guest",
        "family": "redhat",
        "release": release,
        "disks": {"root": {"size_mib": 512, "filesystem": "ext3"}},
        "packages": {"groups": ("core",), "signatures": "not checked",
                     "repositories": ({"name": "base", "title": "Base", "baseurls": ("http://mirror.test/",)},)},
        "configure": {"hostname": "guest", "console": CONSOLES.get(major, "hvc0")},
        "ramdisk": {"maker": "mkinitrd" if major == 5 else "dracut"},
    }  # fmt: skip
    for path, value in changes.items():
        section, _, key = path.partition("__")
        parts[section] = {**parts[section], key: value} if key else value
    return ImageRecipe.model_validate(parts)


def make_guest(release: str, disks: dict[str, Any] | None = None, **configure: Any) -> Guest:
    root = {"size_mib": 512, "filesystem": "ext3", "device": "xvda1"}
    console = configure.setdefault("console", CONSOLES[int(release.partition(".")[0])])
    section = Configure.model_validate({"hostname": "guest", **configure})
    whole = Disks.model_validate({"root": root, **(disks or {})})
    return Guest("redhat", release, "x86_64", whole, Kernel(), section, console, "/dev/xvda1")


@pytest.mark.parametrize("release", ["5", "5.2", "5.11", "6.10", "7", "7.9.2009", "8.10", "9", "9.7"])
def test_a_right_recipe_has_no_problems(release: str) -> None:
    assert redhat.find_recipe_problems(make_recipe(release)) == []


@pytest.mark.parametrize("release", ["4.9", "5.12", "7.99", "10", "five", "5.", "", "9.21", "5.2; rm -rf /"])
def test_an_unknown_release_is_named_with_those_there_are(release: str) -> None:
    assert find_release(release) is None
    ((place, fact),) = redhat.find_recipe_problems(make_recipe().model_copy(update={"release": release}))
    assert place == ("release",)
    assert "did you mean" in fact or "known: 5 (to 5.11), 6 (to 6.10)" in fact


@pytest.mark.parametrize("release", ["5,2", "centos-5.2", "5.2."])
def test_a_near_miss_is_guessed(release: str) -> None:
    ((_, fact),) = redhat.find_recipe_problems(make_recipe().model_copy(update={"release": release}))
    assert fact.endswith("did you mean '5.2'?")


EXT4 = {"size_mib": 512, "filesystem": "ext4"}
GROWING_EXT2 = {"size_mib": 512, "filesystem": "ext2", "grow": True}


@pytest.mark.parametrize(
    ("release", "changes", "place", "said"),
    [
        ("7", {"arch": "i386"}, ("arch",), "x86_64 only"),
        ("5.2", {"disks__root": EXT4}, ("disks", "root", "filesystem"), "ext2 or ext3"),
        ("6", {"disks__root": GROWING_EXT2}, ("disks", "root", "grow"), "ext2"),
        ("5.2", {"ramdisk__maker": "dracut"}, ("ramdisk", "maker"), "mkinitrd"),
        ("9", {"ramdisk__maker": "mkinitrd"}, ("ramdisk", "maker"), "dracut"),
        ("6", {"ramdisk": {"maker": "dracut", "preload": ("loop",)}}, ("ramdisk", "preload"), "before others"),
        ("5.2", {"configure__console": "hvc0"}, ("configure", "console"), "xvc0"),
        ("7", {"configure__console": "xvc0"}, ("configure", "console"), "hvc0"),
        ("7", {"packages__suites": ("bookworm",)}, ("packages", "suites"), "Debian"),
        ("7", {"packages__repositories": ()}, ("packages", "repositories"), "one at least"),
        ("7", {"packages__groups": ()}, ("packages",), "nothing is to be installed"),
        ("7", {"packages__signatures": "required"}, ("packages", "repositories", 0, "gpgkeys"), "not checked"),
        ("7", {"configure__network": {"manager": "networkd"}}, ("configure", "network", "manager"), "ifcfg"),
        ("7", {"configure__sources": {"apt": ("deb x",)}}, ("configure", "sources", "apt"), "yum"),
    ],
)
def test_what_a_release_cannot_do_is_refused(
    release: str, changes: dict[str, Any], place: tuple[str | int, ...], said: str
) -> None:
    ((found, fact),) = redhat.find_recipe_problems(make_recipe(release, **changes))
    assert found == place
    assert said in fact


def test_an_extra_disk_is_found_by_its_number() -> None:
    disks = [{"name": name, "size_mib": 64, "filesystem": kind, "device": device, "mount": f"/{name}"}
             for name, kind, device in (("a", "ext3", "xvdb"), ("b", "ext4", "xvdc"))]  # fmt: skip
    ((place, _),) = redhat.find_recipe_problems(make_recipe("5.2", disks__extra=tuple(disks)))
    assert place == ("disks", "extra", 1, "filesystem")


@pytest.mark.parametrize(
    ("release", "arguments"), [("5.2", ""), ("6.10", "console=hvc0"), ("9", "console=hvc0 net.ifnames=0")]
)
def test_the_kernel_is_told_its_console(release: str, arguments: str) -> None:
    assert redhat.get_kernel_arguments(make_guest(release), Domain()) == arguments


def list_files(steps: Sequence[Step]) -> dict[str, str]:
    return {str(step.path): str(step.content) for step in steps if isinstance(step, Write)}


def list_runs(steps: Sequence[Step]) -> list[tuple[str, ...]]:
    return [tuple(map(str, step.argv)) for step in steps if isinstance(step, Run)]


MORE = {
    "swap": {"size_mib": 64, "device": "xvda2"},
    "extra": (
        {"name": "data", "size_mib": 64, "device": "xvdb", "filesystem": "ext3", "mount": "/srv"},
        {"name": "scratch", "size_mib": 64, "device": "xvdc", "filesystem": "ext3", "mount": "/mnt", "ephemeral": True},
    ),
}


@pytest.mark.parametrize(("release", "option"), [("5.2", "_netdev"), ("6", "nofail"), ("9", "nofail")])
def test_an_ephemeral_disk_may_be_missing(release: str, option: str, tmp_path: Path) -> None:
    fstab = list_files(redhat.make_configure_steps(make_guest(release, MORE), tmp_path))["/etc/fstab"]
    rows = {row[1]: row for row in map(str.split, fstab.splitlines())}
    assert rows["/mnt"] == ["/dev/xvdc", "/mnt", "ext3", f"defaults,{option}", "0", "0"]
    assert rows["/srv"] == ["/dev/xvdb", "/srv", "ext3", "defaults", "0", "2"]
    assert rows["none"][0] == "/dev/xvda2"
    assert ("/proc" in rows) == (release != "9")


def test_a_static_network(tmp_path: Path) -> None:
    interfaces = ({"name": "eth0", "method": "static", "address": "192.0.2.10/26", "gateway": "192.0.2.1"},)
    network = {"interfaces": interfaces, "gateway": "192.0.2.2", "dns": ("192.0.2.3", "192.0.2.4")}
    files = list_files(redhat.make_configure_steps(make_guest("6.10", network=network), tmp_path))
    assert files["/etc/sysconfig/network"] == "NETWORKING=yes\nHOSTNAME=guest\nGATEWAY=192.0.2.2\n"
    assert files["/etc/resolv.conf"] == "nameserver 192.0.2.3\nnameserver 192.0.2.4\n"
    assert files["/etc/sysconfig/network-scripts/ifcfg-eth0"].splitlines() == [
        "DEVICE=eth0", "BOOTPROTO=none", "ONBOOT=yes", "IPADDR=192.0.2.10", "NETMASK=255.255.255.192",
        "GATEWAY=192.0.2.1", "DNS1=192.0.2.3", "DNS2=192.0.2.4"]  # fmt: skip


@pytest.mark.parametrize(
    ("release", "hooks"),
    [
        ("5.2", {"/etc/rc.d/init.d/xenkiln-grow-root", "/etc/rc.d/init.d/xenkiln-meta-data"}),
        ("6.10", {"/etc/rc.d/init.d/xenkiln-grow-root", "/etc/rc.d/init.d/xenkiln-meta-data", "/etc/init/hvc0.conf"}),
        ("8", {"/etc/systemd/system/xenkiln-grow-root.service", "/etc/systemd/system/xenkiln-meta-data.service"}),
    ],
)
def test_tasks_are_hooked_into_each_init(release: str, hooks: set[str], tmp_path: Path) -> None:
    root = {"size_mib": 512, "filesystem": "ext3", "grow": True}
    steps = redhat.make_configure_steps(make_guest(release, {"root": root}, fetch_metadata=True), tmp_path)
    files = list_files(steps)
    assert {path for path in files if path.startswith(("/etc/rc.d", "/etc/init", "/etc/systemd"))} == hooks
    for name in ("grow-root", "meta-data"):
        assert files[f"/usr/sbin/xenkiln-{name}"] == (PROJECT / "scripts/guest" / name).read_text()
        enabled = ("systemctl", "enable", f"xenkiln-{name}.service")
        assert (enabled if release == "8" else ("chkconfig", "--add", f"xenkiln-{name}")) in list_runs(steps)
    for path in hooks:
        if "init.d" in path:
            assert subprocess.run(["sh", "-n"], input=files[path].encode(), check=False).returncode == 0
            assert "# chkconfig: 2345 " in files[path]


@pytest.mark.parametrize("release", ["5.2", "9"])
def test_modules_are_loaded_at_boot(release: str, tmp_path: Path) -> None:
    files = list_files(redhat.make_configure_steps(make_guest(release, load_modules=("a", "b")), tmp_path))
    if release == "9":
        assert files["/etc/modules-load.d/xenkiln.conf"] == "a\nb\n"
    else:
        assert files["/etc/sysconfig/modules/xenkiln.modules"] == "#!/bin/sh\nmodprobe a\nmodprobe b\n"


INITTAB = "id:3:initdefault:\nco:2345:respawn:/sbin/agetty old\n1:2345:respawn:/sbin/mingetty tty1\n"


def do_steps(guest: Guest, root: Path, folder: Path, *words: str) -> None:
    """Do the steps in this process whose reason has one of these words."""
    steps = redhat.make_configure_steps(guest, root)
    run_steps([step for step in steps if isinstance(step, Do) and any(w in step.why for w in words)],
              make_context(folder))  # fmt: skip


def test_root_may_log_in_on_the_console_of_centos_5(tmp_path: Path) -> None:
    etc = tmp_path / "root/etc"
    etc.mkdir(parents=True)
    (etc / "inittab").write_text(INITTAB)
    (etc / "securetty").write_text("tty1\n")
    for _ in range(2):
        do_steps(make_guest("5.2"), etc.parent, tmp_path, "getty", "log in")
    assert (etc / "inittab").read_text() == (
        "id:3:initdefault:\n1:2345:respawn:/sbin/mingetty tty1\n"
        "co:2345:respawn:/sbin/agetty xvc0 9600 vt100-nav\n"
    )  # fmt: skip
    assert (etc / "securetty").read_text() == "tty1\nxvc0\n"


def test_a_tree_without_base_packages_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="securetty: the installed packages did not bring this file"):
        do_steps(make_guest("5.2"), tmp_path / "root", tmp_path, "log in")


def test_sources_selinux_and_mount_points(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("etc/yum.repos.d", "etc/selinux"):
        (root / name).mkdir(parents=True)
    (root / "etc/yum.repos.d/CentOS-Base.repo").touch()
    (root / "etc/selinux/config").write_text("# SELINUX=enforcing\nSELINUX=enforcing\nSELINUXTYPE=targeted\n")
    source = {"name": "base", "title": "Base", "baseurl": "http://mirror.test/"}
    guest = make_guest("7", MORE, sources={"yum": (source,)})
    do_steps(guest, root, tmp_path, "sources", "SELinux", "mount points")
    assert list((root / "etc/yum.repos.d").iterdir()) == []
    assert "\nSELINUX=permissive\n" in (root / "etc/selinux/config").read_text()
    assert (root / "srv").is_dir()
    text = list_files(redhat.make_configure_steps(guest, root))["/etc/yum.repos.d/base.repo"]
    assert text == "[base]\nname=Base\nbaseurl=http://mirror.test/\nenabled=1\ngpgcheck=1\n"


def test_an_unknown_time_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no time zone Mars/Phobos"):
        do_steps(make_guest("7", timezone="Mars/Phobos"), tmp_path, tmp_path, "time zone")


@pytest.mark.root
def test_device_nodes_are_in_the_image_itself(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "dev").mkdir(parents=True)
    (root / "dev/null").write_text("a file in the way")
    do_steps(make_guest("5.2"), root, tmp_path, "device nodes")
    found = {}
    for path in (root / "dev").iterdir():
        status = path.stat()
        assert stat.S_ISCHR(status.st_mode)
        found[path.name] = (os.major(status.st_rdev), os.minor(status.st_rdev), stat.S_IMODE(status.st_mode))
    assert found == {"console": (5, 1, 0o600), "null": (1, 3, 0o666), "zero": (1, 5, 0o666)}
