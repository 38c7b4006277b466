"""The unpacked kernels of the lab's dom0: made once, made again where they are not what they were."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from xenkiln.lab import dom0, host
from xenkiln.lab.dom0 import UNPACKED, unpack_boot_files
from xenkiln.lab.host import State
from xenkiln.lab.places import AT_ONCE, hold_file
from xenkiln.lab.session import HOST_LOCK, Lab, find_lab

STATE = State(40001, "SHA256:abc", 2560, "tcg", {"Xen": 2.5}, stays=True)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "SHA256SUMS").write_text("0123  root.img\n")
    (folder / "vmlinuz").write_bytes(b"packed kernel")
    (folder / "initrd.img").write_bytes(gzip.compress(b"ramdisk"))
    monkeypatch.setattr(dom0, "read_hypervisor", lambda image, scratch: b"xen")
    monkeypatch.setattr(dom0, "unpack_kernel", lambda data: b"kernel")
    return folder


def test_they_are_unpacked_once(images: Path, tmp_path: Path) -> None:
    folder = unpack_boot_files(images, tmp_path / "lab" / "dom0")
    assert [(folder / name).read_bytes() for name in UNPACKED] == [b"xen", b"kernel", b"ramdisk"]
    before = (folder / UNPACKED[0]).stat().st_mtime_ns
    assert unpack_boot_files(images, tmp_path / "lab" / "dom0") == folder
    assert (folder / UNPACKED[0]).stat().st_mtime_ns == before


@pytest.mark.parametrize("name", [*UNPACKED, "sums"])
@pytest.mark.parametrize("data", [b"", b"ramdisx", b"\xff", None])
def test_what_a_crash_has_damaged_is_unpacked_again(
    images: Path, tmp_path: Path, name: str, data: bytes | None
) -> None:
    folder = unpack_boot_files(images, tmp_path / "lab" / "dom0")
    if data is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(data)
    assert unpack_boot_files(images, tmp_path / "lab" / "dom0") == folder
    assert [(folder / name).read_bytes() for name in UNPACKED] == [b"xen", b"kernel", b"ramdisk"]


def test_another_image_takes_the_place_of_the_first(images: Path, tmp_path: Path) -> None:
    first = unpack_boot_files(images, tmp_path / "lab" / "dom0")
    (images / "SHA256SUMS").write_text("4567  root.img\n")
    second = unpack_boot_files(images, tmp_path / "lab" / "dom0")
    assert second.is_dir()
    assert not first.exists()


def test_a_host_that_stays_is_found_and_no_other(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", tmp_path / "images", "")
    lab.host.mkdir(parents=True)
    (lab.host / host.STATE).write_text(json.dumps(asdict(STATE)))
    assert find_lab(lab) is None  # it was killed: nobody holds its lock
    with hold_file(lab.folder / HOST_LOCK, AT_ONCE):
        assert find_lab(lab) == STATE
        (lab.host / host.STATE).write_text(json.dumps(asdict(replace(STATE, stays=False))))
        assert find_lab(lab) is None
