"""Trees with everything in them that a copy likes to lose."""

from __future__ import annotations

import os
import socket
import stat
import struct
import subprocess
from pathlib import Path

from sealing import EPOCH

DAY = 86400
CAP_NET_RAW = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # linux/capability.h, revision 2, effective
ACL = struct.pack("<I" + "HHI" * 5, 2, 1, 6, 2**32 - 1, 2, 4, 1000, 4, 4, 2**32 - 1, 16, 4, 2**32 - 1, 32, 4, 2**32 - 1)
"""Owner rw, user 1000 r, group r, mask r, others r: linux/posix_acl_xattr.h."""


def write(path: Path, content: str | bytes = "", mode: int = 0o644, age_days: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    os.utime(path, (EPOCH - age_days * DAY,) * 2)
    return path


def fill_small(root: Path) -> None:
    """What any image has."""
    for name in ("boot", "etc", "tmp", "run", "usr/bin", "var/log"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    write(root / "etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    write(root / "etc/shadow", "root:*::0:99999:7:::\n", 0o640)
    write(root / "usr/bin/true", b"\x7fELF" * 3000, 0o755)


def fill_strangely(root: Path) -> None:
    """Everything that a copy likes to lose."""
    fill_small(root)
    os.chown(root / "etc/shadow", 0, 42)
    write(root / "usr/bin/su", "su", 0o4755)
    ping = write(root / "usr/bin/ping", "ping", 0o755)
    os.setxattr(ping, "security.capability", CAP_NET_RAW)
    write(root / "srv/shared", "shared")
    os.setxattr(write(root / "srv/noted", "noted"), "user.note", b"x" * 500)
    for number in range(3):
        os.link(root / "usr/bin/true", root / "usr/bin" / f"linked{number}")
    (root / "short").symlink_to("usr/bin")
    (root / "long").symlink_to("/" + "very/" * 30 + "long")
    (root / "out").symlink_to("../../../../etc/passwd")
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "run-fifo", 0o620)
    os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(root / "loop300", 0o660 | stat.S_IFBLK, os.makedev(7, 300))
    bind_socket(root / "sock")
    with write(root / "var/sparse").open("r+b") as stream:
        stream.seek(20 << 20)
        stream.write(b"end")
    write(root / "var/empty")
    write(root / "var/zeros", bytes(3 << 20))
    for name in ("Grüße ☃", "line\nbreak", "back\\slash", "x" * 255, " blank ", "-rf", "日本語"):
        write(root / "names" / name, name)
    (root / os.fsdecode(b"names/not utf-8 \xff\xfe")).write_bytes(b"x")
    for number in range(4000):
        write(root / "many" / f"entry-{number:05}")
    write(root / "new", "newer than the build's date", age_days=-1)


def bind_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # a socket's address holds 107 characters only
        try:
            server.bind(path.name)
        finally:
            os.chdir("/")


def change_strangely(root: Path) -> None:
    """What configuring does: copies up, removes, replaces folders."""
    write(root / "etc/hostname", "guest\n", age_days=-400)
    (root / "names/-rf").unlink()
    subprocess.run(["rm", "-rf", root / "srv"], check=True)
    write(root / "srv/shared", "again")
    (root / "usr/bin/su").chmod(0o755)
    (root / "short").unlink()
    (root / "short").symlink_to("etc")


def change_with_acl(root: Path) -> None:
    """Apart from the rest because xfs shows an ACL under a second name; a build's own layers are always ext4."""
    change_strangely(root)
    os.setxattr(root / "srv/shared", "system.posix_acl_access", ACL)
    os.setxattr(root / "srv", "system.posix_acl_default", ACL)


def describe_tree(root: Path) -> dict[str, tuple[object, ...]]:
    """What find, sha256sum and getxattr say; not our own comparison, which is tested elsewhere."""
    form = "%P\\0%y\\0%m\\0%U:%G\\0%s\\0%l\\0%n\\0%T@\\0"
    output = subprocess.run(["find", root, "-mindepth", "1", "-printf", form], check=True, capture_output=True).stdout
    fields = output.split(b"\0")[:-1]
    found: dict[str, tuple[object, ...]] = {}
    for start in range(0, len(fields), 8):
        name, kind, mode, owner, size, target, links, moment = fields[start : start + 8]
        path = os.fsencode(root) + b"/" + name
        xattrs = {
            key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
        }
        device = os.lstat(path).st_rdev
        content = Path(os.fsdecode(path)).read_bytes() if kind == b"f" else b""
        mtime = EPOCH if kind == b"d" else min(EPOCH, int(float(moment)))
        plain = (b"", b"") if kind == b"d" else (size, links)
        found[os.fsdecode(name)] = (kind, mode, owner, *plain, target, mtime, xattrs, device, hash(content))
    return found
