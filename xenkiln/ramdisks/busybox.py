"""A small ramdisk: the image's own static busybox, the modules asked for, and one init script."""

from __future__ import annotations

import gzip
import lzma
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from xenkiln.errors import BuildError
from xenkiln.model.image import Ramdisk
from xenkiln.ramdisks.archive import Entry, make_device, make_file, make_folder, make_link, pack_archive
from xenkiln.system.execution import Context
from xenkiln.system.files import resolve_in_root
from xenkiln.system.layout import PROJECT
from xenkiln.system.steps import Do, Step

FRONT_ENDS = ("xen-blkfront", "xen-netfront")
UNREAD = ("etc/hostname",)
INIT = PROJECT / "scripts" / "guest" / "ramdisk-init"
FOLDERS = ("bin", "dev", "proc", "root", "sys")
APPLETS = ("awk", "busybox", "cat", "cttyhack", "findfs", "insmod", "mount", "setsid", "sh",
           "switch_root", "usleep")  # fmt: skip
"""The programs that ramdisk-init calls."""

COVERED_BY = {"ext2": "ext4", "ext3": "ext4"}
"""ext4's driver reads the older two as well, and since Linux 4.3 they have none of their own."""

PT_INTERP = 3  # elf(5): the segment that names the dynamic loader


def make_ramdisk_steps(ramdisk: Ramdisk, filesystem: str, root: Path, output: str) -> list[Step]:
    """One step: everything is read from the image and packed on the host, so nothing depends on when and where."""
    asked = (*ramdisk.preload, *FRONT_ENDS, *ramdisk.modules, filesystem)
    wanted = tuple(COVERED_BY.get(name, name) for name in asked)

    def make_ramdisk(context: Context) -> None:
        target = resolve_in_root(root, output)
        entries = list_entries(root, context.values["kernel_version"], wanted)
        target.write_bytes(gzip.compress(pack_archive(entries, context.epoch), mtime=0))

    return [Do(f"make a ramdisk of busybox with {', '.join(dict.fromkeys(wanted))}", make_ramdisk)]


def list_entries(root: Path, version: str, wanted: Iterable[str]) -> list[Entry]:
    """What the ramdisk holds: busybox, its links, modules and the list of them in loading order, init."""
    modules = order_modules(root, version, wanted)
    entries = [make_folder(name) for name in FOLDERS]
    entries += [make_device("dev/console", 5, 1, 0o600), make_device("dev/null", 1, 3, 0o666)]
    entries += [make_file("bin/busybox", read_busybox(root), 0o755), make_file("init", INIT.read_bytes(), 0o755)]
    entries += [make_link(f"bin/{name}", "busybox") for name in APPLETS if name != "busybox"]
    names = [f"lib/modules/{version}/{path}" for path in modules]
    parents = {str(parent) for name in names for parent in PurePosixPath(name).parents} - {"."}
    entries += [make_folder(name) for name in sorted(parents)]
    entries += [make_file(_unpacked(name), read_module(resolve_in_root(root, f"/{name}")), 0o644) for name in names]
    entries.append(make_file("modules", "".join(f"/{_unpacked(name)}\n" for name in names).encode(), 0o644))
    return entries


def read_busybox(root: Path) -> bytes:
    """The image's busybox, which must not need a dynamic loader: a ramdisk has none."""
    path = resolve_in_root(root, "/bin/busybox")
    advice = "install busybox-static (packages.install), or take another ramdisk.maker"
    if not path.is_file():
        raise BuildError("the image has no busybox to make a ramdisk of", place="/bin/busybox", next_step=advice)
    program = path.read_bytes()
    if needs_loader(program):
        raise BuildError("the image's busybox is not static", place="/bin/busybox", next_step=advice)
    return program


def needs_loader(program: bytes) -> bool:
    """Whether a 32- or 64-bit little-endian ELF file has a PT_INTERP segment, by elf(5)'s layouts."""
    if program[:4] != b"\x7fELF":
        raise BuildError("is not an ELF program", place="/bin/busybox")
    wide = program[4] == 2
    start, size, count = (
        (*struct.unpack_from("<Q", program, 32), *struct.unpack_from("<HH", program, 54)) if wide
        else (*struct.unpack_from("<I", program, 28), *struct.unpack_from("<HH", program, 42))
    )  # fmt: skip
    return any(struct.unpack_from("<I", program, start + size * number)[0] == PT_INTERP for number in range(count))


def order_modules(root: Path, version: str, wanted: Iterable[str]) -> list[str]:
    """Paths below /lib/modules/VERSION, each after what it depends on; built-in ones need none.

    Raises BuildError naming every module that the kernel does not have.
    """
    index = read_index(root, version)
    names = [_plain(name) for name in wanted]
    if missing := sorted(dict.fromkeys(name for name in names if name not in index.paths.keys() | index.builtin)):
        raise BuildError(f"kernel {version} has no module {', '.join(missing)}", place=f"/lib/modules/{version}",
                         next_step="take it out of ramdisk.modules, or take another kernel")  # fmt: skip
    ordered: list[str] = []
    for name in names:
        index.add_module(name, ordered)
    return ordered


@dataclass(frozen=True)
class ModuleIndex:
    """What depmod(8) knows: name -> path, path -> paths it needs, name -> names to load before it, other names."""

    paths: dict[str, str]
    needs: dict[str, tuple[str, ...]]
    before: dict[str, tuple[str, ...]]
    aliases: dict[str, list[str]]
    builtin: set[str]

    def add_module(self, name: str, ordered: list[str]) -> None:
        """Append the paths of a module and of all it depends on, in loading order, each once."""
        path = self.paths.get(name)
        if path is None or path in ordered:
            return
        # ext4 asks for crc32c by name while it mounts; a ramdisk has no modprobe that the kernel could call.
        for other in self.before.get(name, ()):
            for real in self.aliases.get(other, [other]):
                self.add_module(_plain(real), ordered)
        for needed in self.needs[path]:
            self.add_module(_plain(needed), ordered)
        ordered.append(path)


def read_index(root: Path, version: str) -> ModuleIndex:
    """Read modules.dep, .softdep, .alias and .builtin of a kernel in the image."""
    paths, needs = {}, {}
    for line in _read_lines(root, version, "modules.dep"):
        path, _, rest = line.partition(":")
        paths[_plain(path)] = path
        # The last one named is to be loaded first.
        needs[path] = tuple(reversed(rest.split()))
    before = {}
    for line in _read_lines(root, version, "modules.softdep"):
        if match := re.match(r"softdep (\S+) .*\bpre:([^:]*)(?: post:|$)", line):
            before[_plain(match[1])] = tuple(match[2].split())
    aliases: dict[str, list[str]] = {}
    for line in _read_lines(root, version, "modules.alias"):
        if match := re.fullmatch(r"alias (\S+) (\S+)", line):
            aliases.setdefault(match[1], []).append(match[2])
    builtin = {_plain(line) for line in _read_lines(root, version, "modules.builtin")}
    return ModuleIndex(paths, needs, before, aliases, builtin)


def read_module(path: Path) -> bytes:
    """A module's own bytes: busybox insmod does not read packed ones."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix != ".ko":
        raise BuildError("is packed in a way that this ramdisk maker cannot unpack", place=path.name,
                         next_step="take another ramdisk.maker")  # fmt: skip
    return data


def _read_lines(root: Path, version: str, name: str) -> list[str]:
    path = resolve_in_root(root, f"/lib/modules/{version}/{name}")
    if not path.is_file():
        raise BuildError(f"there is no {name}, so depmod has not run for kernel {version}",
                         place=f"/lib/modules/{version}")  # fmt: skip
    return path.read_text(encoding="utf-8").splitlines()


def _plain(name: str) -> str:
    return PurePosixPath(name).name.split(".ko")[0].replace("-", "_")


def _unpacked(name: str) -> str:
    return name.split(".ko")[0] + ".ko"
