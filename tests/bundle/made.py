"""Images and bundles of them that tests are made of."""

from __future__ import annotations

import os
from pathlib import Path

from bundle.by_hand import Owner
from xenkiln.bundle import manifest as manifests
from xenkiln.bundle.archive import Layout, lay_out_plain, lay_out_sparse
from xenkiln.bundle.manifest import Description, Keys, Manifest, Mapping, parse_manifest, render_manifest
from xenkiln.bundle.parts import Content, Part, Secret, make_parts
from xenkiln.system.files import list_extents

MACHINE = Description("root.img", "000100000001", "machine", "x86_64", "eki-90591388", "eri-F4CB118E",
                      (Mapping("root", "/dev/sda1"), Mapping("ami", "sda1")), ("A1B2C3D4",))  # fmt: skip
SECRET = Secret(bytes(range(16)), bytes(range(16, 32)))
LAYOUTS = {"plain": lay_out_plain, "sparse": lay_out_sparse}


def make_keys(owners: dict[str, Owner]) -> Keys:
    return Keys(owners["cloud"].key.public_key(), owners["user"].key)


def bundle(image: Path, folder: Path, keys: Keys, kind: str = "plain", secret: Secret = SECRET,
           description: Description = MACHINE) -> Path:  # fmt: skip
    """Bundle into a folder; returns the manifest."""
    folder.mkdir(exist_ok=True)

    def keep(part: Part, data: memoryview) -> None:
        assert part.size == len(data)
        (folder / manifests.name_part(description.name, part.number)).write_bytes(data)

    content = make_parts(image, lay_out(image, kind), secret, keep)
    path = folder / f"{description.name}.manifest.xml"
    path.write_bytes(render_manifest(description, content, secret, keys))
    return path


def lay_out(image: Path, kind: str = "plain") -> Layout:
    """With the holes that the file has."""
    size = image.stat().st_size
    with image.open("rb") as stream:
        return LAYOUTS[kind](image.name, size, list(list_extents(stream.fileno(), size)))


def collect(image: Path, layout: Layout) -> tuple[Content, list[bytes]]:
    """Bundle into memory."""
    made: list[bytes] = []
    return make_parts(image, layout, SECRET, lambda _, data: made.append(bytes(data))), made


def write_image(path: Path, size: int, extents: list[tuple[int, int]]) -> Path:
    with path.open("wb") as stream:
        for start, length in extents:
            stream.seek(start)
            stream.write(os.urandom(length))
        stream.truncate(size)
    return path


def read(path: Path) -> Manifest:
    return parse_manifest(path.read_bytes(), path.name)
