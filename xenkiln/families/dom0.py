"""The lab's dom0: Debian without an init system, cut down to what a Xen host needs; scripts/host/lab does the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.families import debian
from xenkiln.families.contract import FieldProblem, FilesystemProfile, Guest
from xenkiln.families.filesystems import ext_profile
from xenkiln.families.fstab import render_fstab
from xenkiln.model.distributions import DEBIAN_RELEASES
from xenkiln.model.domain import Domain
from xenkiln.model.image import ImageRecipe
from xenkiln.system.execution import Context
from xenkiln.system.files import resolve_in_root
from xenkiln.system.layout import PROJECT
from xenkiln.system.steps import Do, Step, Write

INSTALLER = "mmdebstrap"
INIT = PROJECT / "scripts" / "host" / "lab" / "init"
INIT_PATH = "/sbin/lab-init"

MODULES = ("ext4", "virtio_pci", "virtio_blk", "virtio_net", "virtio_scsi", "sd_mod", "loop", "bridge", "veth",
           "xen-blkback", "xen-netback", "xen-evtchn", "xen-gntalloc", "xen-gntdev", "xen-privcmd", "xenfs",
           "xen-blkfront", "xen-netfront")  # fmt: skip
"""What the lab's machine and its guests need; of the other three thousand none is kept."""

CLEANUP = (
    *debian.CLEANUP,
    "boot/System.map*", "boot/config*", "boot/*.efi", "boot/vmlinuz*", "vmlinuz*", "usr/lib/debug",
    "usr/bin/perl5*", "usr/lib/systemd", "usr/lib/udev", "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/x86_64-linux-gnu/libperl*", "usr/lib/x86_64-linux-gnu/perl", "usr/lib/xen-*/boot",
    "usr/share/bash-completion",
    "usr/share/doc", "usr/share/info", "usr/share/initramfs-tools", "usr/share/lintian", "usr/share/locale",
    "usr/share/man", "usr/share/perl", "usr/share/zoneinfo", "var/cache/debconf/*", "var/lib/apt/lists",
)  # fmt: skip
"""Nothing is installed in it later, so what only installing and reading need can go."""
TRUNCATE = debian.TRUNCATE


def find_recipe_problems(recipe: ImageRecipe) -> list[FieldProblem]:
    """Another release than Debian's, and settings that nothing in it would carry out."""
    return list(_list_problems(recipe))


def _list_problems(recipe: ImageRecipe) -> Iterator[FieldProblem]:
    known = [name for name, release in DEBIAN_RELEASES.items() if release.distribution == "debian"]
    if recipe.release not in known:
        yield ("release",), f"dom0 is made of Debian: {', '.join(known)}"
    if recipe.arch != "x86_64":
        yield ("arch",), "Xen's own host runs on x86_64 only"
    if recipe.packages.repositories or recipe.packages.groups:
        yield ("packages",), "dom0 is made of Debian packages: it takes mirrors and install"
    configure = recipe.configure
    asked = {"fetch_metadata": configure.fetch_metadata, "load_modules": configure.load_modules,
             "timezone": configure.timezone, "disable_tls": configure.disable_tls}  # fmt: skip
    for name, value in asked.items():
        if value:
            yield ("configure", name), "the lab's dom0 is set up when it starts: leave this out"
    if recipe.disks.root.grow:
        yield ("disks", "root", "grow"), "the lab's dom0 never grows: leave this out"


def get_filesystem_profile(release: str, filesystem: str) -> FilesystemProfile:
    """As for any Debian guest."""
    return ext_profile(filesystem, "3.18")


def make_configure_steps(guest: Guest, root: Path) -> Sequence[Step]:
    """fstab, the init that takes the lab's settings from its second disk, and no more modules than it loads."""

    def empty_modules(context: Context) -> None:
        keep_modules(root, context)

    return [
        Write("/etc/fstab", render_fstab(guest, pseudo=()), root=root),
        Write("/etc/hostname", f"{guest.configure.hostname}\n", root=root),
        Write("/etc/hosts", f"127.0.0.1\tlocalhost {guest.configure.hostname}\n", root=root),
        Write("/etc/apt/sources.list", "".join(f"{line}\n" for line in debian.list_sources(guest)), root=root),
        Write(INIT_PATH, INIT.read_text(encoding="utf-8"), 0o755, root=root),
        Do(f"keep the kernel modules {', '.join(MODULES)}", empty_modules),
    ]


def get_kernel_arguments(guest: Guest, domain: Domain) -> str:
    """The console that Xen gives to dom0."""
    return "console=hvc0"


def keep_modules(root: Path, context: Context) -> None:
    """Remove every kernel module but MODULES and what those need; raises BuildError where one is not there."""
    folder = resolve_in_root(root, "/lib/modules")
    for version in sorted(path.name for path in folder.iterdir()):
        listed = context.read(("modprobe", "-a", "-D", "-S", version, *MODULES), root=root)
        wanted = {line.split()[1] for line in listed.splitlines() if line.startswith("insmod ")}
        if not wanted:
            raise BuildError("it has none of the modules that a Xen host needs", place=f"/lib/modules/{version}",
                             next_step="install linux-image-amd64: others may lack Xen's back-ends")  # fmt: skip
        kernel = folder / version / "kernel"
        for path in sorted(kernel.rglob("*.ko*")):
            if f"/lib/modules/{version}/{path.relative_to(folder / version)}" not in wanted:
                path.unlink()
        for path in sorted(kernel.rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        context.read(("depmod", version), root=root)
