"""Running the filesystem and seal stages on layers that a test makes by itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from xenkiln.artifacts.ext import Volume
from xenkiln.model.lock import dump_plan
from xenkiln.model.packages import Package, PackagePlan
from xenkiln.model.records import StepTime
from xenkiln.stages import filesystem, seal
from xenkiln.stages.packages import plan_path
from xenkiln.system.commands import Runner
from xenkiln.system.execution import Context, run_steps
from xenkiln.system.files import fixed_umask, partial_path
from xenkiln.system.layout import Paths

EPOCH = 1_700_000_000
EXT3_OF_2007 = ("dir_index", "ext_attr", "filetype", "has_journal", "large_file", "resize_inode", "sparse_super")
EXT4_OF_TODAY = tuple(sorted((*EXT3_OF_2007, "64bit", "dir_nlink", "extent", "extra_isize", "flex_bg", "huge_file",
                              "metadata_csum")))  # fmt: skip
PLAN = PackagePlan(EPOCH, (
    Package("base-files", "12.4+deb12u9", "amd64", "aa" * 32, 70_000, 340, "pool/b.deb", "debian"),
    Package("libc6", "2.36-9+deb12u10", "amd64", "bb" * 32, 2_700_000, 12_000, "pool/l.deb", "debian"),
    Package("zlib1g", "1:1.2.13.dfsg-1", "amd64", "cc" * 32, 86_000, 168, "pool/z.deb", "debian"),
))  # fmt: skip


def make_volume(size_mib: int = 64, *, old: bool = False) -> Volume:
    features, inode_size = (EXT3_OF_2007, 128) if old else (EXT4_OF_TODAY, 256)
    return Volume("guest", "root", size_mib, features, inode_size)


def make_inputs(volume: Volume | None = None, **changes: object) -> seal.Inputs:
    inputs = seal.Inputs("guest", "debian", "bookworm", volume or make_volume(), (), None, (), None)
    return replace(inputs, **changes)  # type: ignore[arg-type]


def make_context(paths: Paths, values: dict[str, str] | None = None) -> Context:
    """What pipeline.make_context gives a stage."""
    log = paths.log("test")
    log.parent.mkdir(parents=True, exist_ok=True)
    (paths.work / "home").mkdir(parents=True, exist_ok=True)
    env = {"HOME": str(paths.work / "home"), "SOURCE_DATE_EPOCH": str(EPOCH), "E2FSPROGS_FAKE_TIME": str(EPOCH)}
    known = {"epoch": str(EPOCH), "installed_mib": "20", "kernel_version": "6.1.0-1-cloud-amd64"}
    return Context(paths, Runner(log, env), lambda _: None, known | (values or {}))


@dataclass(frozen=True)
class Sealed:
    paths: Paths
    context: Context
    times: tuple[StepTime, ...]


def make_paths(folder: Path) -> Paths:
    paths = Paths("guest", folder, folder / "recipes")
    for path in (paths.images, paths.work, paths.root):
        path.mkdir(parents=True, exist_ok=True)
    return paths


@contextmanager
def mounted(image: Path, where: Path, *options: str) -> Iterator[Path]:
    where.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-o", ",".join(["loop", *options]), image, where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


def make_image(image: Path, kind: str, size_mib: int) -> None:
    image.parent.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as stream:
        stream.truncate(size_mib << 20)
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True, capture_output=True)


def make_layers(paths: Paths, fill_base: Callable[[Path], object], change: Callable[[Path], object] | None = None, *,
                kind: str = "ext4", size_mib: int = 320) -> None:  # fmt: skip
    """What bootstrap and configure leave: a filesystem, and an overlay's upper layer in another one."""
    base, layer = paths.layer("bootstrap"), paths.layer("configure")
    for image in (base, layer):
        make_image(image, kind, size_mib)
    with mounted(base, paths.work / "bootstrap") as lower:
        fill_base(lower)
        with mounted(layer, paths.work / "configure") as top:
            (top / "upper").mkdir()
            (top / "work").mkdir()
            if change:
                options = f"lowerdir={lower},upperdir={top / 'upper'},workdir={top / 'work'}"
                options += ",index=off,redirect_dir=off,metacopy=off"
                subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", paths.root], check=True)
                try:
                    change(paths.root)
                finally:
                    subprocess.run(["umount", paths.root], check=True)


def run_seal(paths: Paths, inputs: seal.Inputs, values: dict[str, str] | None = None) -> Sealed:
    """The stage itself on layers that are there."""
    plan_path(paths).write_text(dump_plan(PLAN), encoding="utf-8")
    for name, content in (("vmlinuz", b"kernel" * 1000), ("initrd.img", b"ramdisk" * 1000)):
        (paths.images / name).write_bytes(content)
    for path in seal.list_outputs(inputs, paths):
        partial_path(path).unlink(missing_ok=True)
    context = make_context(paths, values)
    with fixed_umask():
        times = run_steps(seal.make_steps(inputs, paths), context)
    return Sealed(paths, context, times)


def run_filesystem(paths: Paths, inputs: filesystem.Inputs, values: dict[str, str] | None = None) -> Context:
    context = make_context(paths, values)
    with fixed_umask():
        run_steps(filesystem.make_steps(inputs, paths), context)
    return context


def read_sums(paths: Paths) -> str:
    return (paths.images / seal.SUMS).read_text()


def list_own_loops(folder: Path) -> list[str]:
    backing = [path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    return [path for path in backing if path.startswith(f"{folder}{os.sep}")]
