"""Sealing for real: what was in the tree is in the image, what was around it is not. Needs root."""

from __future__ import annotations

import os
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
from strange_trees import change_strangely, change_with_acl, describe_tree, fill_small, fill_strangely, write

from xenkiln.errors import BuildError
from xenkiln.stages import seal
from xenkiln.system.layout import Paths

pytestmark = pytest.mark.root


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
    assert found.pop("lost+found") == wanted.pop("lost+found")
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


def test_what_the_recipe_put_there_is_in_the_image(tmp_path: Path) -> None:
    """Whatever the family's patterns match: a log of the recipe's own, a home, a mount point."""

    def configure(root: Path) -> None:
        for name in ("var/log/journal/app/keep", "var/log/journal/litter", "etc/foo-", "etc/bar-",
                     "var/tmp/anna/.profile"):  # fmt: skip
            write(root / name, "content")
        (root / "run/data").mkdir(parents=True)

    kept = ("/var/log/journal/app/keep", "/etc/foo-", "/var/tmp/anna", "/run/data")
    sealed = seal_small(tmp_path, configure, kept=kept)
    found = list_image(sealed.paths, tmp_path / "sealed")
    assert {"var/log/journal/app/keep", "etc/foo-", "var/tmp/anna/.profile", "run/data"} <= found
    assert not {"var/log/journal/litter", "etc/bar-"} & found


def test_a_file_of_the_recipe_keeps_its_content(tmp_path: Path) -> None:
    """A family empties files that are another in every guest, unless the recipe says what is in one."""

    def configure(root: Path) -> None:
        for name in ("etc/machine-id", "var/log/wtmp"):
            write(root / name, "content")

    sealed = seal_small(tmp_path, configure, kept=("/etc/machine-id",))
    with mounted(sealed.paths.images / "root.img", tmp_path / "sealed", "ro") as root:
        assert (root / "etc/machine-id").read_text() == "content"
        assert (root / "var/log/wtmp").read_text() == ""


def test_a_disk_that_is_no_longer_wanted_goes_with_the_next_image(tmp_path: Path) -> None:
    sealed = seal_small(tmp_path, shapes=("disk",))
    assert (sealed.paths.images / "disk.img").is_file()
    run_seal(sealed.paths, make_inputs())
    assert not (sealed.paths.images / "disk.img").exists()


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
