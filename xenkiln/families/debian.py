"""Debian and Ubuntu: fstab, network, console, package sources, first-boot tasks."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_interface
from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.families.contract import FieldProblem, FilesystemProfile, Guest
from xenkiln.families.device_nodes import make_node_steps
from xenkiln.families.disk_names import find_foreign_names
from xenkiln.families.filesystems import ext_profile
from xenkiln.families.first_boot import FirstBootTask, list_tasks
from xenkiln.families.fstab import make_mount_points, render_fstab
from xenkiln.families.gateways import find_gateway_problem, list_interfaces
from xenkiln.families.thread_storage import make_tls_steps
from xenkiln.model.configure import Interface
from xenkiln.model.distributions import DEBIAN_RELEASES
from xenkiln.model.domain import Domain
from xenkiln.model.image import ImageRecipe
from xenkiln.system.execution import Context
from xenkiln.system.files import resolve_in_root
from xenkiln.system.steps import Do, Run, Step, Write
from xenkiln.system.templates import render_template

INSTALLER = "mmdebstrap"

CLEANUP = (
    "etc/apt/apt.conf.d/01autoremove-kernels", "etc/ssh/ssh_host_*", "etc/*-", "etc/.pwd.lock",
    "run/*", "tmp/*", "var/tmp/*", "var/cache/apt/*.bin", "var/cache/apt/archives/*.deb", "var/cache/apt/archives/lock",
    "var/cache/debconf/*-old", "var/cache/ldconfig/aux-cache", "var/cache/man", "var/lib/apt/extended_states",
    "var/lib/apt/lists/*", "var/lib/dbus/machine-id", "var/lib/dpkg/*-old", "var/lib/dpkg/available",
    "var/lib/dpkg/lock*", "var/lib/dpkg/triggers/Lock", "var/lib/systemd/catalog/database",
    "var/lib/systemd/credential.secret", "var/lib/systemd/random-seed", "var/log/apt", "var/log/alternatives.log",
    "var/log/bootstrap.log", "var/log/dpkg.log", "var/log/journal/*", "boot/initrd.img*", "initrd.img*",
)  # fmt: skip
"""After mmdebstrap(1), section SOURCE_DATE_EPOCH, and what a second build was seen to differ in."""

NO_I386 = dict.fromkeys(("jammy", "noble"), "Ubuntu has no i386 since 20.04")
NO_I386["trixie"] = "Debian has no i386 kernel since 13"

DHCP_CLIENTS = {"isc-dhcp-client", "dhcpcd", "dhcpcd-base", "udhcpc", "busybox", "dhcp3-client"}

TRUNCATE = ("etc/machine-id", "var/log/faillog", "var/log/lastlog", "var/log/btmp", "var/log/wtmp")

EPHEMERAL = {"systemd": "nofail", "upstart": "nobootwait"}
"""systemd.mount(5); of upstart's mountall only the latter keeps the boot from waiting."""

NO_RENAMING = ("ln", "-sf", "/dev/null", "/etc/systemd/network/99-default.link")
"""systemd.link(5): without it newer releases call a Xen interface enX0, and the recipe says eth0."""


def find_recipe_problems(recipe: ImageRecipe) -> list[FieldProblem]:
    """An unknown suite, rpm-only settings, an architecture that the release does not have."""
    problems: list[FieldProblem] = []
    if recipe.release not in DEBIAN_RELEASES:
        problems.append((("release",), f"unknown release {recipe.release!r}; known: {', '.join(DEBIAN_RELEASES)}"))
    elif recipe.arch == "i386" and recipe.release in NO_I386:
        problems.append((("arch",), NO_I386[recipe.release]))
    problems += [
        (("packages", name), "is for rpm distributions; Debian takes mirrors and install")
        for name in ("repositories", "groups")
        if getattr(recipe.packages, name)
    ]
    problems += find_foreign_names(recipe)
    network = recipe.configure.network
    if network.manager in ("ifcfg", "busybox"):
        problems.append((("configure", "network", "manager"), "must be networkd or ifupdown on Debian and Ubuntu"))
    if network.manager == "networkd" and recipe.release == "lucid":
        problems.append((("configure", "network", "manager"), "must be ifupdown: Ubuntu 10.04 has no systemd"))
    problems += find_gateway_problem(network)
    if recipe.configure.sources.yum:
        problems.append((("configure", "sources", "yum"), "Debian and Ubuntu have apt sources"))
    if recipe.release in DEBIAN_RELEASES:
        problems += _find_missing_packages(recipe)
    return problems


def _find_missing_packages(recipe: ImageRecipe) -> list[FieldProblem]:
    """Programs that the recipe's own settings need, and that minbase does not have."""
    installed = set(recipe.packages.install)
    network = recipe.configure.network
    wanted: list[tuple[str, set[str]]] = []
    if network.manager == "ifupdown":
        wanted.append(("network.manager: ifupdown", {"ifupdown", "ifupdown2", "ifupdown-ng"}))
        if any(interface.method == "dhcp" for interface in network.interfaces):
            wanted.append(("a dhcp interface with ifupdown", DHCP_CLIENTS))
    if recipe.configure.fetch_metadata:
        wanted.append(("fetch_metadata", {"curl", "wget", "busybox"}))
    return [(("packages", "install"), f"{what} needs {' or '.join(sorted(names))}")
            for what, names in wanted if not names & installed]  # fmt: skip


def get_filesystem_profile(release: str, filesystem: str) -> FilesystemProfile:
    """lucid's 2.6.32 and its e2fsprogs are the oldest; all others read today's ext4."""
    return ext_profile(filesystem, "2.6.32" if release == "lucid" else "3.18")


def get_kernel_arguments(guest: Guest, domain: Domain) -> str:
    """The console that messages and a login go to."""
    return f"console={guest.console}"


def make_configure_steps(guest: Guest, root: Path) -> Sequence[Step]:
    """Every file whose form is Debian's own."""
    init = DEBIAN_RELEASES[guest.release].init
    hostname = guest.configure.hostname
    names = " ".join(dict.fromkeys([hostname, hostname.partition(".")[0]]))
    hosts = f"127.0.0.1\tlocalhost\n127.0.1.1\t{names}\n\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    steps: list[Step] = [
        Write("/etc/fstab", render_fstab(guest, pseudo=(), ephemeral_option=EPHEMERAL[init]), root=root),
        *make_mount_points(guest, root),
        Write("/etc/hostname", f"{hostname}\n", root=root),
        Write("/etc/hosts", hosts, root=root),
        Write("/etc/apt/sources.list", "".join(f"{line}\n" for line in list_sources(guest)), root=root),
        *_make_network_steps(guest, init, root),
        *_make_console_steps(guest, init, root),
        *_make_task_steps(list_tasks(guest, ssh_keys=True), init, root),
        # Their udev and devtmpfs make what they need.
        *make_node_steps(guest.configure.device_nodes or (), root),
        *make_tls_steps(guest.configure, root),
    ]
    if guest.configure.load_modules:
        path = "/etc/modules-load.d/xenkiln.conf" if init == "systemd" else "/etc/modules"
        steps.append(Write(path, "".join(f"{name}\n" for name in guest.configure.load_modules), root=root))
    if guest.configure.timezone:
        steps += _make_timezone_steps(guest.configure.timezone, root)
    return steps


def list_sources(guest: Guest) -> list[str]:
    """The guest's own apt sources: the recipe's, or the distribution's default; never the build's mirror."""
    if guest.configure.sources.apt:
        return list(guest.configure.sources.apt)
    release = DEBIAN_RELEASES[guest.release]
    archives = dict.fromkeys(release.suites, release.mirror)
    if release.distribution == "debian":
        archives[f"{guest.release}-security"] = "http://security.debian.org/debian-security"
    return [f"deb {mirror} {suite} main" for suite, mirror in archives.items()]


def _make_network_steps(guest: Guest, init: str, root: Path) -> list[Step]:
    network = guest.configure.network
    manager = network.manager or ("networkd" if init == "systemd" else "ifupdown")

    def set_resolver(context: Context) -> None:
        path = resolve_in_root(root, "/etc") / "resolv.conf"
        path.unlink(missing_ok=True)
        if resolve_in_root(root, "/lib/systemd/systemd-resolved").exists():
            path.symlink_to("../run/systemd/resolve/stub-resolv.conf")
        else:
            path.write_text("".join(f"nameserver {address}\n" for address in network.dns))

    steps: list[Step] = [Do("set /etc/resolv.conf", set_resolver, writes=(root / "etc/resolv.conf",))]
    if init == "systemd":
        steps.append(Run("keep the kernel's interface names", NO_RENAMING, root=root))
    interfaces = list_interfaces(network)
    if manager == "ifupdown":
        values = [_interface_values(interface) for interface in interfaces]
        text = render_template("debian/interfaces", {"interfaces": values, "dns": network.dns})
        return [*steps, Write("/etc/network/interfaces", text, root=root)]
    for number, interface in enumerate(interfaces):
        dns = network.dns if number == 0 else ()
        text = render_template("debian/networkd", {"interface": interface, "dns": dns})
        steps.append(Write(f"/etc/systemd/network/10-{interface.name}.network", text, root=root))
    return [*steps, _enable("systemd-networkd.service", root)]


def _interface_values(interface: Interface) -> dict[str, object]:
    address = ip_interface(interface.address) if interface.address else None
    return {**interface.model_dump(), "ip": address and str(address.ip), "netmask": address and str(address.netmask)}


def _make_console_steps(guest: Guest, init: str, root: Path) -> list[Step]:
    if init == "systemd":
        screen = guest.console.startswith("tty") and guest.console[3:].isdigit()  # tty1, unlike ttyS0 and hvc0
        getty = "getty" if screen else "serial-getty"
        return [_enable(f"{getty}@{guest.console}.service", root)]

    def allow_root(context: Context) -> None:
        path = resolve_in_root(root, "/etc/securetty")
        text = path.read_text() if path.is_file() else ""
        if guest.console not in text.split():
            path.write_text(f"{text}{guest.console}\n")

    text = render_template("debian/hvc0.conf", {"console": guest.console})
    return [Write(f"/etc/init/{guest.console}.conf", text, root=root),
            Do(f"let root log in on {guest.console}", allow_root, writes=(root / "etc/securetty",))]  # fmt: skip


def _make_task_steps(tasks: list[FirstBootTask], init: str, root: Path) -> list[Step]:
    steps: list[Step] = []
    for task in tasks:
        values = {"what": task.what, "command": task.path, "unit": task.unit, "service": task.service,
                  "start_on": task.start_on}  # fmt: skip
        steps.append(Write(task.path, task.read_script(), 0o755, root=root))
        if init == "systemd":
            text = render_template("debian/task.service", values)
            steps += [Write(f"/etc/systemd/system/{task.name}.service", text, root=root),
                      _enable(f"{task.name}.service", root)]  # fmt: skip
        else:
            text = render_template("debian/task.conf", values)
            steps.append(Write(f"/etc/init/{task.name}.conf", text, root=root))
    return steps


def _make_timezone_steps(timezone: str, root: Path) -> list[Step]:
    def check_zone(context: Context) -> None:
        if not resolve_in_root(root, f"/usr/share/zoneinfo/{timezone}").is_file():
            raise BuildError(f"the image knows no time zone {timezone}", place="configure.timezone",
                             next_step="install tzdata, or correct the name")  # fmt: skip

    return [Do(f"look for the time zone {timezone}", check_zone),
            Write("/etc/timezone", f"{timezone}\n", root=root),
            Run("set the time zone", ("ln", "-sf", f"/usr/share/zoneinfo/{timezone}", "/etc/localtime"),
                root=root)]  # fmt: skip


def _enable(unit: str, root: Path) -> Step:
    return Run(f"enable {unit}", ("systemctl", "enable", unit), root=root)
