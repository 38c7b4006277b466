"""The few kernel modules that a Xen guest needs, with what they depend on."""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterator
from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.system.execution import Context

NEEDED = ("xen-blkfront", "xen-netfront", "ext4")
"""Without these it finds neither its disk nor its network."""

USEFUL = ("af_packet", "ipv6", "loop", "crc32c_generic", "crc32c-intel", "xenfs", "xen-evtchn", "xen-privcmd")
"""Taken where the kernel has them: dhcp, filesystems in files, ext4's checksums (which it asks
for without depending on them), and talking to the xenstore."""

INDEXES = ("modules.builtin", "modules.builtin.modinfo", "modules.order")


def copy_modules(source: Path, target: Path, context: Context) -> None:
    """Copy NEEDED and USEFUL with all they depend on from one /lib/modules/VERSION to another, unpacked.

    Raises BuildError when the kernel has one of NEEDED neither as a module nor built in.
    """
    files = {_plain(path.name): path for path in source.rglob("*.ko*")}
    builtin = {_plain(Path(line).name) for line in (source / "modules.builtin").read_text().splitlines()}
    if missing := [name for name in NEEDED if _plain(name) not in files.keys() | builtin]:
        raise BuildError(f"the kernel has no {', '.join(missing)}", place=source.name)
    todo = [_plain(name) for name in (*NEEDED, *USEFUL)]
    done: set[str] = set()
    while todo:
        name = todo.pop()
        if name in done or name not in files:
            continue
        done.add(name)
        path = files[name]
        place = target / path.relative_to(source).with_name(path.name.split(".ko")[0] + ".ko")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(_unpack(path, context))
        todo += list_dependencies(place.read_bytes())
    for name in INDEXES:
        if (source / name).is_file():
            (target / name).write_bytes((source / name).read_bytes())


def list_dependencies(module: bytes) -> Iterator[str]:
    """The modules that a module names in its .modinfo section, as modinfo(8) shows them."""
    for names in re.findall(rb"\0depends=([^\0]*)", module):
        yield from (_plain(name) for name in names.decode().split(",") if name)


def _plain(name: str) -> str:
    return name.split(".ko")[0].replace("-", "_")


def _unpack(path: Path, context: Context) -> bytes:
    """A module's own bytes: Debian packs them with xz since release 13, Ubuntu with zstd."""
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".zst":
        context.run(["zstd", "-q", "-d", "-f", path])
        return path.with_suffix("").read_bytes()
    return path.read_bytes()
