"""Sealing for real: what was in the tree is in the image, what was around it is not. Needs root."""

from __future__ import annotations

import os
import socket
import stat
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sealing import (
    EPOCH,
    Sealed,
    list_own_loops,
    make_image,
    make_inputs,
    make_layers,
    make_paths,
    make_volume,
    mounted,
    read_sums,
    run_seal,
)

from xenkiln.errors import BuildError
from xenkiln.stages import seal
from xenkiln.system.layout import Paths

pytestmark = pytest.mark.root

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


@pytest.mark.parametrize("old", [False, True], ids=["ext4", "ext3 of 2007"])
def test_everything_in_the_tree_is_in_the_image(tmp_path: Path, old: bool) -> None:
    paths = make_paths(tmp_path)
    make_layers(paths, fill_strangely, change_with_acl)
    with (
        mounted(paths.layer("bootstrap"), tmp_path / "lower", "ro") as lower,
        mounted(paths.layer("configure"), tmp_path / "upper", "ro") as upper,
    ):
        options = f"ro,lowerdir={upper / 'upper'}:{lower}"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", paths.root], check=True)
        try:
            wanted = describe_tree(paths.root)
        finally:
            subprocess.run(["umount", paths.root], check=True)
    run_seal(paths, make_inputs(make_volume(old=old)))
    with mounted(paths.images / "root.img", tmp_path / "sealed", "ro") as sealed:
        found = describe_tree(sealed)
        assert (sealed / "usr/bin/true").stat().st_ino == (sealed / "usr/bin/linked2").stat().st_ino
        assert (sealed / "var/sparse").stat().st_blocks * 512 < 64 << 10
        assert (sealed / "new").stat().st_mtime == EPOCH
    assert found.pop("lost+found")[:3] == (b"d", b"700", b"0:0")
    assert found.keys() == wanted.keys()
    assert {name: (wanted[name], entry) for name, entry in found.items() if entry != wanted[name]} == {}
    assert len(found) == 4040


def fill_backwards(fill: Callable[[Path], None], scratch: Path) -> Callable[[Path], None]:
    """The same tree, its entries made in the opposite order and read since."""

    def copy(root: Path) -> None:
        scratch.mkdir()
        fill(scratch)
        names = subprocess.run(["find", ".", "-mindepth", "1", "-depth", "-print0"], cwd=scratch, check=True,
                               capture_output=True).stdout.split(b"\0")[:-1]  # fmt: skip
        listing = b"\0".join(sorted(names, reverse=True))
        archive = ["tar", "-c", "--null", "--no-recursion", "--xattrs", "--xattrs-include=*", "-T", "-"]
        packed = subprocess.run(archive, cwd=scratch, input=listing, check=True, stdout=subprocess.PIPE).stdout
        unpack = ["tar", "-x", "-p", "--xattrs", "--xattrs-include=*", "--delay-directory-restore", "-C", str(root)]
        subprocess.run(unpack, input=packed, check=True)
        subprocess.run(["find", root, "-type", "f", "-exec", "cat", "{}", "+"], check=True, stdout=subprocess.DEVNULL)

    return copy


def fill_without_sockets(root: Path) -> None:
    fill_strangely(root)
    (root / "sock").unlink()  # tar leaves them out


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    paths = make_paths(tmp_path_factory.mktemp("reference"))
    make_layers(paths, fill_without_sockets, change_strangely)
    return read_sums(run_seal(paths, make_inputs()).paths)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_the_same_bytes_from_layers_on_any_filesystem(tmp_path: Path, kind: str, reference: str) -> None:
    paths = make_paths(tmp_path)
    make_layers(paths, fill_backwards(fill_without_sockets, tmp_path / "scratch"), change_strangely, kind=kind)
    assert read_sums(run_seal(paths, make_inputs()).paths) == reference


@pytest.fixture(params=["tmpfs", "xfs", "btrfs"])
def other_folder(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A build folder on another filesystem type."""
    where = tmp_path / "build folder"
    where.mkdir()
    if request.param == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", where], check=True)
        yield where
        subprocess.run(["umount", where], check=True)
    else:
        make_image(tmp_path / "host.img", request.param, 2048)
        with mounted(tmp_path / "host.img", where):
            yield where


def test_the_same_bytes_in_any_folder_at_any_time(
    other_folder: Path, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Chatham")
    monkeypatch.setenv("LC_ALL", "et_EE.UTF-8")
    paths = make_paths(other_folder)
    make_layers(paths, fill_without_sockets, change_strangely)
    time.sleep(1.1)  # so that no second is shared with the layers' making
    before = os.umask(0o077)
    try:
        sealed = run_seal(paths, make_inputs())
    finally:
        os.umask(before)
    assert read_sums(paths) == reference
    image = paths.images / "root.img"
    assert image.stat().st_blocks * 512 < 8 << 20, "holes stay holes"
    assert sealed.context.identity == run_seal(paths, make_inputs()).context.identity


def seal_small(folder: Path, change: Callable[[Path], object] | None = None, **options: Any) -> Sealed:
    paths = make_paths(folder)
    make_layers(paths, fill_small, change, size_mib=128)
    return run_seal(paths, make_inputs(**options))


def list_image(paths: Paths, where: Path) -> set[str]:
    with mounted(paths.images / "root.img", where, "ro"):
        return {str(path.relative_to(where)) for path in where.rglob("*")} - {"lost+found"}


def test_what_was_left_for_a_moment_leaves_no_trace(tmp_path: Path) -> None:
    def litter(root: Path) -> None:
        for name in ("tmp/x/y", "run/lock", "var/tmp/z", "etc/shadow-", "var/cache/ldconfig/aux-cache",
                     "boot/initrd.img-6.1", "boot/initramfs-6.1.img"):  # fmt: skip
            write(root / name, "litter", age_days=-1)
        for name in ("var/cache/ldconfig", "var/cache", "var/tmp"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def tidy(root: Path) -> None:
        (root / "var/cache/ldconfig").mkdir(parents=True)
        (root / "var/tmp").mkdir()

    sums = [read_sums(seal_small(tmp_path / name, change).paths) for name, change in (("a", litter), ("b", tidy))]
    assert sums[0] == sums[1]


def test_no_link_in_the_tree_reaches_the_host(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    for name in ("file.log", "vmlinuz-6.1.0-1-cloud-amd64", "grub/menu.lst"):
        write(victim / name, "precious")

    def attack(root: Path) -> None:
        for name in ("run", "boot", "var/log", "var/tmp", "usr/lib"):
            subprocess.run(["rm", "-rf", root / name], check=True)
            (root / name).symlink_to(victim)

    before = describe_tree(victim)
    sealed = seal_small(tmp_path / "build", attack, menu_arguments="root=/dev/xvda1")
    assert describe_tree(victim) == before
    assert list_own_loops(tmp_path) == []
    assert not list(victim.rglob("initrd*"))
    assert "out" not in list_image(sealed.paths, tmp_path / "sealed")


def test_the_image_carries_what_it_boots_from(tmp_path: Path) -> None:
    sealed = seal_small(tmp_path, shapes=("disk",), menu_arguments="root=/dev/xvda1 ro console=hvc0")
    with mounted(sealed.paths.images / "root.img", tmp_path / "sealed", "ro") as root:
        version = "6.1.0-1-cloud-amd64"
        for name in ("vmlinuz", "initrd.img"):
            assert (root / f"boot/{name}-{version}").read_bytes() == (sealed.paths.images / name).read_bytes()
        menu = (root / "boot/grub/menu.lst").read_text()
        assert f"kernel /boot/vmlinuz-{version} root=/dev/xvda1 ro console=hvc0\n" in menu
        assert "root (hd0,0)\n" in menu
    with mounted(sealed.paths.images / "disk.img", tmp_path / "partition", "ro", "offset=1048576") as root:
        assert (root / "boot/grub/menu.lst").read_text() == menu


def test_everything_is_listed_with_its_checksum(tmp_path: Path) -> None:
    sealed = seal_small(tmp_path, shapes=("disk", "qcow2", "vhd"))
    listed = [line.split()[1] for line in read_sums(sealed.paths).splitlines()]
    assert listed == sorted(["root.img", "vmlinuz", "initrd.img", "packages.json", "sbom.spdx.json", "disk.img",
                             "disk.qcow2", "disk.vhd"])  # fmt: skip
    subprocess.run(["sha256sum", "--check", "--strict", seal.SUMS], cwd=sealed.paths.images, check=True,
                   capture_output=True)  # fmt: skip
    assert sealed.context.values["sha256_root"] in read_sums(sealed.paths)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_tree_that_does_not_fit_is_refused_and_nothing_stays_behind(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="more than a filesystem of 64 MiB holds") as caught:
        seal_small(tmp_path, lambda root: write(root / "big", os.urandom(60 << 20)), volume=make_volume())
    assert "make it 128 at least" in caught.value.next_step
    assert not (tmp_path / "images/guest/root.img").exists()
    assert list_own_loops(tmp_path) == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
