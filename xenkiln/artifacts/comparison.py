"""What differs between two images: packages, files and, where the files are alike, the first block."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from xenkiln.artifacts.layout import read_geometry
from xenkiln.system.commands import Runner
from xenkiln.system.files import hash_file, list_extents
from xenkiln.system.mounts import mount_image

CHUNK = 1 << 20
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo",
         stat.S_IFSOCK: "socket", stat.S_IFCHR: "character device", stat.S_IFBLK: "block device"}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """A path, or a package, that both sides have; `fields` holds (what, left, right) for each difference."""

    name: str
    fields: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Comparison:
    """Names only the right side has, only the left one has, and what changed between them; sorted.

    `layout` says in words where two images with equal files differ first, "" when they do not.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[Change, ...] = field(default=())
    layout: str = ""

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs at all."""
        return not (self.added or self.removed or self.changed or self.layout)


def compare_packages(left: Path, right: Path) -> Comparison:
    """Two packages.json; several versions of one package (kernels) are told apart."""
    sides = [_read_packages(path) for path in (left, right)]
    return _compare(sides[0], sides[1])


def _read_packages(path: Path) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for package in json.loads(path.read_text(encoding="utf-8")):
        name = f"{package['name']}.{package['arch']}"
        known = found.setdefault(name, {"version": "", "sha256": ""})
        for key, value in known.items():
            known[key] = f"{value} {package[key]}".lstrip()
    return found


def compare_trees(left: Path, right: Path) -> Comparison:
    """Two trees: type, mode, owner, size, content, mtime, links and extended attributes of every path.

    Contents are only read where size and type are alike; no link is followed.
    """
    return _compare(_read_tree(left), _read_tree(right), (left, right))


def _read_tree(root: Path) -> dict[str, dict[str, str]]:
    return {name: describe_entry(path) for name, path in walk_tree(root)}


def walk_tree(root: Path) -> Iterator[tuple[str, Path]]:
    """(guest path, host path) of everything below `root`."""
    yield "/", root
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder) / name
            yield f"/{path.relative_to(root)}", path


def describe_entry(path: Path) -> dict[str, str]:
    """What can be said of a path without reading its content, field -> text."""
    info = path.lstat()
    kind = stat.S_IFMT(info.st_mode)
    entry = {
        "type": KINDS[kind],
        "mode": f"{stat.S_IMODE(info.st_mode):04o}",
        "owner": f"{info.st_uid}:{info.st_gid}",
        "mtime": f"{info.st_mtime_ns // 10**9}.{info.st_mtime_ns % 10**9:09d}",
    }
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        entry[f"xattr {name}"] = os.getxattr(path, name, follow_symlinks=False).hex()
    if kind != stat.S_IFDIR:
        entry["links"] = str(info.st_nlink)
    if kind == stat.S_IFREG:
        entry["size"] = str(info.st_size)
    elif kind == stat.S_IFLNK:
        entry["target"] = str(path.readlink())
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        entry["device"] = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
    return entry


def _compare(left: dict[str, dict[str, str]], right: dict[str, dict[str, str]],
             roots: tuple[Path, Path] | None = None) -> Comparison:  # fmt: skip
    changes = []
    for name in sorted(left.keys() & right.keys()):
        before, after = left[name], right[name]
        if roots and before.get("size") == after.get("size") is not None:
            digests = [hash_file(root / name.lstrip("/")) for root in roots]
            before, after = before | {"content": digests[0]}, after | {"content": digests[1]}
        fields = tuple(
            (key, before.get(key, ""), after.get(key, ""))
            for key in sorted(before.keys() | after.keys())
            if before.get(key) != after.get(key)
        )
        changes += [Change(name, fields)] if fields else []
    return Comparison(tuple(sorted(right.keys() - left.keys())), tuple(sorted(left.keys() - right.keys())),
                      tuple(changes))  # fmt: skip


def compare_images(left: Path, right: Path, scratch: Path, runner: Runner) -> Comparison:
    """Two filesystem images, read through read-only mounts below `scratch`.

    Images whose files are alike but whose bytes are not are told apart by `layout`.
    """
    difference = find_difference(left, right)
    if difference is None:
        return Comparison()
    with ExitStack() as stack:
        for image, side in ((left, "left"), (right, "right")):
            stack.enter_context(mount_image(runner, image, scratch / side, read_only=True))
        found = compare_trees(scratch / "left", scratch / "right")
    if found.is_equal:
        found = Comparison(layout=describe_difference(left, right, difference, runner))
    return found


def find_difference(left: Path, right: Path) -> int | None:
    """The offset of the first byte that differs, None when there is none; holes on both sides are skipped."""
    sizes = left.stat().st_size, right.stat().st_size
    with left.open("rb") as one, right.open("rb") as other:
        for start, length in _list_common_extents((one.fileno(), other.fileno()), min(sizes)):
            for offset in range(start, start + length, CHUNK):
                count = min(CHUNK, start + length - offset)
                mine, yours = os.pread(one.fileno(), count, offset), os.pread(other.fileno(), count, offset)
                if mine != yours:
                    return offset + next(n for n, (a, b) in enumerate(zip(mine, yours, strict=True)) if a != b)
    return min(sizes) if sizes[0] != sizes[1] else None


def _list_common_extents(descriptors: tuple[int, int], size: int) -> list[tuple[int, int]]:
    """Where either file has data, merged and in order."""
    merged: list[tuple[int, int]] = []
    for start, length in sorted(pair for number in descriptors for pair in list_extents(number, size)):
        if merged and start <= sum(merged[-1]):
            first = merged[-1][0]
            merged[-1] = (first, max(sum(merged[-1]), start + length) - first)
        else:
            merged.append((start, length))
    return merged


def describe_difference(left: Path, right: Path, offset: int, runner: Runner) -> str:
    """The block and inode at `offset`, or the superblock's fields that differ, in words."""
    with left.open("rb") as stream:
        block = offset // read_geometry(stream).block_size
    headers = [runner.read(["dumpe2fs", "-h", str(image)]).splitlines() for image in (left, right)]
    lines = [f"{one.strip()} / {other.partition(':')[2].strip()}"
             for one, other in zip(*headers, strict=False) if one != other]  # fmt: skip
    if lines:
        return f"the superblock, at byte {offset}: " + "; ".join(lines)
    owner = _last_field(runner.read(["debugfs", "-R", f"icheck {block}", str(left)]))
    if not owner.isdigit():
        return f"byte {offset}, in block {block}, which belongs to no file (inode tables, bitmaps)"
    path = _last_field(runner.read(["debugfs", "-R", f"ncheck {owner}", str(left)]))
    return f"byte {offset}, in block {block} of inode {owner} ({path})"


def _last_field(output: str) -> str:
    return output.rstrip("\n").rpartition("\n")[2].rpartition("\t")[2]
