"""CentOS 5 to 7 and Rocky Linux: fstab, sysconfig, console, modules, package sources, first-boot tasks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from xenkiln.families.contract import FieldProblem, FilesystemProfile, Guest
from xenkiln.families.debian_settings import find_debian_settings
from xenkiln.families.device_nodes import FIRST_NODES, make_node_steps
from xenkiln.families.disk_names import find_foreign_names
from xenkiln.families.filesystems import ext_profile
from xenkiln.families.fstab import Row, make_mount_points, render_fstab
from xenkiln.families.redhat_network import make_network_files
from xenkiln.families.redhat_releases import RedhatRelease, describe_unknown, find_release, get_release
from xenkiln.families.redhat_services import make_console_steps, make_module_steps, make_task_steps
from xenkiln.families.thread_storage import make_tls_steps
from xenkiln.families.timezones import make_zone_check
from xenkiln.model.domain import Domain
from xenkiln.model.image import ImageRecipe
from xenkiln.system.execution import Context
from xenkiln.system.files import resolve_in_root
from xenkiln.system.steps import Do, Run, Step, Write
from xenkiln.system.templates import render_template

INSTALLER = "dnf"

CLEANUP = (
    "boot/initramfs-*", "boot/initrd-*.img", "boot/loader/entries/*", "boot/vmlinuz-0-rescue-*", "etc/*-",
    "etc/.pwd.lock", "etc/ssh/ssh_host_*",
    "etc/udev/rules.d/70-persistent-net.rules", "root/.bash_history", "run/*", "tmp/*", "tmp/.[!.]*", "var/tmp/*",
    "usr/lib/sysimage/rpm/.rpm.lock", "usr/lib/sysimage/rpm/*-shm", "usr/lib/sysimage/rpm/*-wal",
    "var/cache/dnf/*", "var/cache/ldconfig/aux-cache", "var/cache/man/*", "var/cache/yum/*",
    "var/lib/NetworkManager/*", "var/lib/dbus/machine-id", "var/lib/dhclient/*", "var/lib/dnf/history*",
    "var/lib/random-seed", "var/lib/rpm/.rpm.lock", "var/lib/rpm/*-shm", "var/lib/rpm/*-wal", "var/lib/rpm/__db.*",
    "var/lib/systemd/catalog/database", "var/lib/systemd/credential.secret", "var/lib/systemd/random-seed",
    "var/lib/yum/history/*", "var/lib/yum/uuid", "var/lib/yum/yumdb/*", "var/log/anaconda*", "var/log/dnf*",
    "var/log/hawkey.log", "var/log/journal/*", "var/log/yum.log",
)  # fmt: skip
"""Caches, histories, ids, seeds and logs, after virt-sysprep(1); what a kernel package's scripts make in /boot,
named for a random machine-id: another ramdisk and menu, made for Xen, replace it."""

TRUNCATE = ("etc/machine-id", "var/log/btmp", "var/log/faillog", "var/log/lastlog", "var/log/tallylog", "var/log/wtmp")

PSEUDO: tuple[Row, ...] = (
    ("none", "/dev/pts", "devpts", "gid=5,mode=620", 0, 0),
    ("none", "/dev/shm", "tmpfs", "defaults", 0, 0),  # noqa: S108  # a mount point
    ("none", "/proc", "proc", "defaults", 0, 0),
    ("none", "/sys", "sysfs", "defaults", 0, 0),
)
"""As the article "Creating a CentOS Xen virtual machine image" has them; systemd mounts these by itself."""

NAMES_OF_OLD = 5
"""The release with Xen's own kernel, 2.6.18: its xenblk calls a disk what the domain's configuration says."""

NO_PRELOADING = 6
"""The release whose dracut has no --force-drivers in any update; that of release 7 got it with 7.6."""


def find_recipe_problems(recipe: ImageRecipe) -> list[FieldProblem]:
    """An unknown release, what that release never had, and settings that only Debian's family has."""
    release = find_release(recipe.release)
    problems = list(_list_foreign(recipe))
    if release is None:
        return [(("release",), describe_unknown(recipe.release)), *problems]
    return [*problems, *_list_misfits(recipe, release)]


def _list_foreign(recipe: ImageRecipe) -> Iterator[FieldProblem]:
    packages = recipe.packages
    yield from find_debian_settings(recipe)
    if not packages.repositories:
        yield ("packages", "repositories"), "an rpm distribution needs one at least"
    if not packages.groups and not packages.install:
        yield ("packages",), "nothing is to be installed: name groups or packages (install)"
    for number, repository in enumerate(packages.repositories):
        if packages.signatures == "required" and not repository.gpgkeys:
            yield (("packages", "repositories", number, "gpgkeys"),
                   "signatures are checked with these keys: give one, or say `signatures: not checked`")  # fmt: skip
    if recipe.configure.sources.apt:
        yield ("configure", "sources", "apt"), "is for Debian and Ubuntu; this distribution has yum sources"
    if recipe.configure.network.manager not in (None, "ifcfg"):
        yield ("configure", "network", "manager"), "must be ifcfg on CentOS and Rocky Linux"


def _list_misfits(recipe: ImageRecipe, release: RedhatRelease) -> Iterator[FieldProblem]:
    if recipe.arch not in release.architectures:
        yield ("arch",), f"release {release.major} is for {' and '.join(release.architectures)} only"
    extra = recipe.disks.extra
    places: dict[tuple[str | int, ...], str] = {("disks", "root", "filesystem"): recipe.disks.root.filesystem}
    places |= {("disks", "extra", number, "filesystem"): disk.filesystem for number, disk in enumerate(extra)}
    for place, filesystem in places.items():
        if filesystem not in release.filesystems:
            yield place, f"release {release.major} boots from {' or '.join(release.filesystems)} only"
    if release.major != NAMES_OF_OLD:
        yield from find_foreign_names(recipe)
    if recipe.disks.root.grow and recipe.disks.root.filesystem == "ext2":
        yield ("disks", "root", "grow"), "ext2 cannot grow while it is mounted: take ext3 or ext4"
    if recipe.ramdisk.maker != release.ramdisk_maker:
        yield ("ramdisk", "maker"), f"release {release.major} has {release.ramdisk_maker}"
    if recipe.ramdisk.preload and release.major == NO_PRELOADING:
        yield ("ramdisk", "preload"), "dracut of release 6 cannot load modules before others: leave this out"
    console = recipe.configure.console
    if console in ("xvc0", "hvc0") and console != release.xen_console and recipe.kernel.source != "files":
        yield ("configure", "console"), f"the Xen console of release {release.major} is {release.xen_console}"


def get_filesystem_profile(release: str, filesystem: str) -> FilesystemProfile:
    """What the release's kernel, e2fsck and pygrub read."""
    return ext_profile(filesystem, get_release(release).era)


def get_kernel_arguments(guest: Guest, domain: Domain) -> str:
    """CentOS 5's Xen kernel writes to xvc0 by itself; systemd's udev would rename the recipe's interfaces."""
    release = get_release(guest.release)
    if release.init == "sysvinit":
        return ""
    return f"console={guest.console}" + (" net.ifnames=0" if release.init == "systemd" else "")


def make_configure_steps(guest: Guest, root: Path) -> Sequence[Step]:
    """Every file whose form is this family's own."""
    release, configure = get_release(guest.release), guest.configure
    systemd = release.init == "systemd"
    fstab = render_fstab(guest, pseudo=() if systemd else PSEUDO,
                         # Old mount knows no nofail; what netfs mounts may be missing.
                         ephemeral_option="_netdev" if release.major == 5 else "nofail")  # fmt: skip
    files = {"/etc/fstab": fstab, **make_network_files(configure, systemd=systemd)}
    nodes = (() if systemd else FIRST_NODES) if configure.device_nodes is None else configure.device_nodes
    steps: list[Step] = [
        *(Write(path, text, root=root) for path, text in files.items()),
        *make_mount_points(guest, root),
        Do("let SELinux report and not refuse: no file has a label", partial(_relax_selinux, root)),
        *make_node_steps(nodes, root),
        *make_console_steps(guest, release, root),
        *make_module_steps(guest, release, root),
        *_make_source_steps(guest, root),
        *make_task_steps(guest, release, root),
        *make_tls_steps(configure, root),
    ]
    return [*steps, *_make_timezone_steps(guest, release, root)]


def _relax_selinux(root: Path, context: Context) -> None:
    """Labels can only be set by a kernel with the guest's policy; enforcing, it would refuse its own init."""
    path = resolve_in_root(root, "/etc/selinux/config")
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"(?m)^SELINUX=enforcing$", "SELINUX=permissive", text), encoding="utf-8")


def _make_source_steps(guest: Guest, root: Path) -> list[Step]:
    """The recipe's package sources in place of the distribution's."""

    def remove_sources(context: Context) -> None:
        for path in sorted(resolve_in_root(root, "/etc/yum.repos.d").glob("*.repo")):
            path.unlink()

    sources = guest.configure.sources.yum
    if not sources:
        return []
    return [
        Do("remove the distribution's own package sources", remove_sources),
        *(Write(f"/etc/yum.repos.d/{source.name}.repo", render_template("redhat/guest.repo.j2", {"source": source}),
                root=root) for source in sources),
    ]  # fmt: skip


def _make_timezone_steps(guest: Guest, release: RedhatRelease, root: Path) -> list[Step]:
    timezone = guest.configure.timezone
    if timezone is None:
        return []
    zone = f"/usr/share/zoneinfo/{timezone}"
    if release.init == "systemd":
        command: tuple[str, ...] = ("ln", "-sf", f"..{zone}", "/etc/localtime")
        return [make_zone_check(timezone, root), Run("set the time zone", command, root=root)]
    # These releases keep a copy, for a /usr that is mounted later.
    clock = f'ZONE="{timezone}"\nUTC=true\n'
    return [make_zone_check(timezone, root), Write("/etc/sysconfig/clock", clock, root=root),
            Run("set the time zone", ("cp", zone, "/etc/localtime"), root=root)]  # fmt: skip
