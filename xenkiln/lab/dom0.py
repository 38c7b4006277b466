"""The lab's dom0 from its built image: Xen, kernel and ramdisk unpacked once, an overlay and a seed for each start."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.lab import machine
from xenkiln.lab.archive import Member, format_settings, write_archive
from xenkiln.lab.guest import list_bodies
from xenkiln.lab.kernels import unpack_kernel
from xenkiln.lab.meta_data import make_meta_data
from xenkiln.lab.network import OTHER_ADDRESSES, list_settings
from xenkiln.system.commands import Runner
from xenkiln.system.files import hash_file, partial_path, remove_path
from xenkiln.system.layout import PROJECT
from xenkiln.system.locks import hold_lock

SCRIPTS = PROJECT / "scripts" / "host" / "lab"
SCRIPT_NAMES = ("start", "guest", "dhcp", "block", "vif-bridge", "meta-data-service")
UNPACKED = (machine.XEN, machine.KERNEL, machine.RAMDISK)
SUMS = "sums"


@dataclass(frozen=True)
class Keys:
    """The lab's ssh keys, made for one start: who it is, and who may come in; files of OpenSSH's format."""

    host: Path
    client: Path


def unpack_boot_files(images: Path, cache: Path) -> Path:
    """Xen, kernel and ramdisk of a built dom0, unpacked below `cache`; the folder, named for the image's checksums.

    What a crash has left half written there is unpacked again.
    """
    folder = cache / hashlib.sha256((images / "SHA256SUMS").read_bytes()).hexdigest()[:16]
    with hold_lock(cache.with_name(f"{cache.name}.lock"), "the unpacked dom0", wait=True):
        if not _is_whole(folder):
            remove_path(cache)
            unfinished = partial_path(folder)
            unfinished.mkdir(parents=True)
            (unfinished / machine.XEN).write_bytes(read_hypervisor(images / "root.img", unfinished))
            (unfinished / machine.KERNEL).write_bytes(unpack_kernel((images / "vmlinuz").read_bytes()))
            (unfinished / machine.RAMDISK).write_bytes(gzip.decompress((images / "initrd.img").read_bytes()))
            (unfinished / SUMS).write_text(_take_sums(unfinished))
            unfinished.rename(folder)
    return folder


def _is_whole(folder: Path) -> bool:
    try:
        return (folder / SUMS).read_text() == _take_sums(folder)
    except (OSError, UnicodeDecodeError):
        return False


def _take_sums(folder: Path) -> str:
    return "".join(f"{hash_file(folder / name)}  {name}\n" for name in UNPACKED)


def read_hypervisor(image: Path, scratch: Path) -> bytes:
    """Xen itself, as its package left it in the image's /boot: an ELF file, unpacked, as qemu takes it (multiboot)."""
    runner = Runner()
    listed = runner.read(["debugfs", "-R", "ls -p /boot", str(image)])
    names = [line.split("/")[5] for line in listed.splitlines() if line.count("/") > 5]
    found = sorted(name for name in names if name.startswith("xen-") and name.endswith(".gz"))
    if not found:
        raise BuildError("there is no hypervisor in its /boot", place=str(image),
                         next_step="the recipe lab-dom0 must install xen-hypervisor-VERSION-amd64")  # fmt: skip
    packed = scratch / found[-1]
    runner.run(["debugfs", "-R", f"dump /boot/{found[-1]} {packed.name}", str(image)], cwd=scratch)
    data = gzip.decompress(packed.read_bytes())
    packed.unlink()
    return data


def make_keys(folder: Path) -> Keys:
    """New ssh keys, readable by us alone."""
    keys = Keys(folder / "host-key", folder / "key")
    for path, comment in ((keys.host, "lab"), (keys.client, "xenkiln")):
        make_key(path, comment)
    return keys


def make_key(path: Path, comment: str) -> None:
    """An ed25519 key pair without a pass phrase: PATH and PATH.pub."""
    Runner().run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])


def read_fingerprint(key: Path) -> str:
    """SHA256:..., as deploy.fingerprint has it."""
    return Runner().read(["ssh-keygen", "-l", "-f", str(key)]).split()[1]


def fill_folder(folder: Path, images: Path, boot_files: Path, keys: Keys, modules: str) -> None:
    """All that qemu is told of by name: links, the throw-away overlay over dom0's image, and the seed."""
    for name in UNPACKED:
        (folder / name).symlink_to(boot_files / name)
    make_overlay(images / "root.img", folder / machine.ROOT)
    settings = {**list_settings(), "MODULES": modules}
    members = [Member(name, SCRIPTS / name, 0o755) for name in SCRIPT_NAMES]
    members += [
        Member("settings", format_settings(settings)),
        Member("host-key", keys.host, 0o600),
        Member("authorized-keys", keys.client.with_suffix(".pub")),
    ]
    public_key = keys.client.with_suffix(".pub").read_text()
    for address in OTHER_ADDRESSES:
        told = make_meta_data(f"guest-{address}", address, public_key)
        members += [Member(f"meta-data/{address}/latest/{path}", body.encode())
                    for path, body in list_bodies(told).items()]  # fmt: skip
    write_archive(folder / machine.SEED, members)


def make_overlay(image: Path, target: Path) -> None:
    """A qcow2 file that takes every write, over an image that takes none."""
    Runner().run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image), "-F", "raw", str(target)])
