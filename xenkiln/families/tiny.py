"""The tiny guest: busybox init, ifupdown, a static /dev to start with, the meta-data client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Interface
from pathlib import Path

from xenkiln.families.contract import FieldProblem, FilesystemProfile, Guest
from xenkiln.families.debian_settings import find_debian_settings
from xenkiln.families.device_nodes import FIRST_NODES, make_node_steps
from xenkiln.families.disk_names import find_foreign_names
from xenkiln.families.fstab import make_mount_points
from xenkiln.families.gateways import find_gateway_problem, list_interfaces
from xenkiln.model.configure import Interface, Network
from xenkiln.model.domain import Domain
from xenkiln.model.image import ImageRecipe
from xenkiln.system.steps import Step, Write
from xenkiln.system.templates import render_template

INSTALLER = "dnf"
RELEASES = ("1",)
RAMDISK_MAKER = "busybox"
NETWORK_MANAGERS = (None, "busybox", "ifupdown")

CLEANUP = (
    "etc/dropbear/dropbear_*_host_key",
    "etc/*-",
    "etc/dnf",
    "run/*",
    "tmp/*",
    "var/cache/*",
    "var/lib/dnf",
    "var/lib/rpm/.rpm.lock",
    "var/lib/rpm/__db.*",
    "var/lib/rpm/rpmdb.sqlite-shm",
    "var/lib/rpm/rpmdb.sqlite-wal",
    "var/lib/xenkiln",
    "var/log/*",
    "var/tmp/*",
)
TRUNCATE: tuple[str, ...] = ()

FEATURES = {
    "ext2": ("ext_attr", "resize_inode", "dir_index", "filetype", "sparse_super", "large_file"),
    "ext3": ("has_journal", "ext_attr", "resize_inode", "dir_index", "filetype", "sparse_super", "large_file"),
    "ext4": ("has_journal", "ext_attr", "resize_inode", "dir_index", "filetype", "extent", "64bit", "flex_bg",
             "sparse_super", "large_file", "huge_file", "dir_nlink", "extra_isize", "metadata_csum"),
}  # fmt: skip
"""What ext4(5) lists and every kernel since 4.4 reads; this guest's is newer."""

INODE_BYTES = 256

KERNEL_FILESYSTEMS = (
    ("devpts", "/dev/pts", "devpts", "gid=5,mode=620"),
    ("tmpfs", "/dev/shm", "tmpfs", "nosuid,nodev"),  # noqa: S108  # a mount point
)


def find_recipe_problems(recipe: ImageRecipe) -> list[FieldProblem]:
    """What busybox has no program for, and releases that do not exist."""
    return list(_list_problems(recipe))


def _list_problems(recipe: ImageRecipe) -> Iterator[FieldProblem]:
    configure = recipe.configure
    if recipe.release not in RELEASES:
        yield ("release",), f"tiny has no release {recipe.release}, only {', '.join(RELEASES)}"
    if recipe.arch != "x86_64":
        yield ("arch",), "tiny is made for x86_64 only"
    yield from find_debian_settings(recipe)
    yield from find_foreign_names(recipe)
    if configure.network.manager not in NETWORK_MANAGERS:
        yield ("configure", "network", "manager"), "tiny's network is set up by busybox: leave this out"
    yield from find_gateway_problem(configure.network)
    if recipe.disks.root.grow:
        yield ("disks", "root", "grow"), "tiny has no resize2fs: give disks.root.size_mib what it will need"
    if recipe.ramdisk.maker != RAMDISK_MAKER:
        yield ("ramdisk", "maker"), f"must be {RAMDISK_MAKER}: tiny has no other program for it inside"
    if configure.timezone not in (None, "UTC", "Etc/UTC"):
        yield ("configure", "timezone"), "tiny has no time zones, its clock shows UTC: leave this out"
    if configure.disable_tls:
        yield ("configure", "disable_tls"), "tiny has no /lib/tls: leave this out"
    for kind in ("apt", "yum"):
        if getattr(configure.sources, kind):
            yield ("configure", "sources", kind), "tiny has no package manager inside: leave this out"


def get_filesystem_profile(release: str, filesystem: str) -> FilesystemProfile:
    """The same for every release: their kernels are the host's own."""
    return FilesystemProfile(FEATURES[filesystem], INODE_BYTES)


def make_configure_steps(guest: Guest, root: Path) -> Sequence[Step]:
    """fstab, hostname, network, modules, console, device nodes, and whether to ask for meta-data."""
    configure = guest.configure
    files = {
        "/etc/fstab": render_fstab(guest),
        "/etc/hostname": f"{configure.hostname}\n",
        "/etc/hosts": render_hosts(configure.hostname),
        "/etc/inittab": render_template("tiny/inittab.j2", {"console": guest.console}),
        "/etc/modules": render_modules(configure.load_modules),
        "/etc/network/interfaces": render_interfaces(configure.network),
    }
    if configure.network.dns:
        files["/etc/resolv.conf"] = "".join(f"nameserver {address}\n" for address in configure.network.dns)
    if configure.fetch_metadata:
        files["/etc/meta-data.conf"] = "# Read by meta-data(8), which runs at boot because this file is here.\n"
    steps: list[Step] = [Write(path, text, root=root) for path, text in files.items()]
    # What init needs until it has mounted a devtmpfs on /dev.
    nodes = FIRST_NODES if configure.device_nodes is None else configure.device_nodes
    return [*steps, *make_mount_points(guest, root), *make_node_steps(nodes, root)]


def get_kernel_arguments(guest: Guest, domain: Domain) -> str:
    """The console that init and the login prompt use."""
    return f"console={guest.console}"


def render_fstab(guest: Guest) -> str:
    """fstab(5): the root, the other disks, the recipe's mounts, the kernel's own filesystems."""
    disks = guest.disks
    lines: list[tuple[object, ...]] = [(guest.root_device, "/", disks.root.filesystem, disks.root.mount_options, 1, 1)]
    if disks.swap:
        lines.append((f"/dev/{disks.swap.device}", "none", "swap", "sw", 0, 0))
    for disk in disks.extra:
        options = f"{disk.mount_options},nofail" if disk.ephemeral else disk.mount_options
        lines.append((f"/dev/{disk.device}", disk.mount, disk.filesystem, options, 0, 2))
    lines += [(what, where, kind, options, 0, 0) for what, where, kind, options in KERNEL_FILESYSTEMS]
    lines += [(mount.what, mount.where, mount.type, mount.options, mount.dump, mount.check_pass)
              for mount in guest.configure.mounts]  # fmt: skip
    return "".join(" ".join(map(str, line)) + "\n" for line in lines)


def render_hosts(hostname: str) -> str:
    """hosts(5): localhost, and the guest itself by its full and its short name."""
    names = dict.fromkeys((hostname, hostname.partition(".")[0]))
    return f"127.0.0.1 localhost\n127.0.1.1 {' '.join(names)}\n::1 localhost\n"


def render_modules(names: Sequence[str]) -> str:
    """The network's front-end, and what the recipe asks for."""
    return "".join(f"{name}\n" for name in dict.fromkeys(("xen-netfront", *names)))


def render_interfaces(network: Network) -> str:
    """interfaces(5) as busybox ifup reads it; it has one way out."""
    return render_template("tiny/network.j2", {"interfaces": list(map(_describe, list_interfaces(network)))})


def _describe(interface: Interface) -> dict[str, object]:
    described: dict[str, object] = {"name": interface.name, "method": interface.method}
    if interface.address:
        address = IPv4Interface(interface.address)
        described |= {"address": str(address.ip), "netmask": str(address.netmask), "gateway": interface.gateway}
    return described
