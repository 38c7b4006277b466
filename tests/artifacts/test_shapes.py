"""Partitioned disks, qcow2 and VHD, judged by the tools that others read them with."""

from __future__ import annotations

import json
import struct
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sealing import EPOCH, make_context, make_paths

from xenkiln.artifacts.ext import derive_uuid
from xenkiln.artifacts.shapes import encode_chs, make_boot_sector, make_shape_steps
from xenkiln.errors import BuildError
from xenkiln.system.execution import run_steps
from xenkiln.system.files import partial_path
from xenkiln.system.layout import Paths

pytestmark = pytest.mark.usefixtures("quick_starts")
SIZE_MIB = 20


def make_shapes(folder: Path, shapes: tuple[str, ...]) -> Paths:
    paths = make_paths(folder)
    root = partial_path(paths.images / "root.img")
    with root.open("wb") as stream:
        stream.truncate(SIZE_MIB << 20)
        for offset in (0, 5 << 20, (SIZE_MIB << 20) - 6):
            stream.seek(offset)
            stream.write(b"filled")
    run_steps(make_shape_steps("guest", shapes, SIZE_MIB, root, paths.images, paths.work), make_context(paths))
    return paths


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_disk_holds_exactly_the_filesystem_in_its_one_partition(tmp_path: Path) -> None:
    paths = make_shapes(tmp_path, ("disk",))
    disk = partial_path(paths.images / "disk.img")
    table = json.loads(run("sfdisk", "--json", disk))["partitiontable"]
    assert (table["label"], table["id"]) == (
        "dos",
        f"0x{int.from_bytes(derive_uuid('guest', 'disk').bytes[:4], 'little'):08x}",
    )
    (partition,) = table["partitions"]
    assert (partition["start"], partition["size"]) == (2048, SIZE_MIB * 2048)
    assert (partition["type"], partition["bootable"]) == ("83", True)
    assert disk.read_bytes()[1 << 20 :] == partial_path(paths.images / "root.img").read_bytes()
    assert disk.stat().st_size == (SIZE_MIB + 1) << 20
    assert disk.stat().st_blocks * 512 < 1 << 20
    assert "No errors detected" in run("sfdisk", "--verify", disk)


@pytest.mark.parametrize(("shape", "kind"), [("qcow2", "qcow2"), ("vhd", "vpc")])
def test_a_shape_holds_the_same_disk(tmp_path: Path, shape: str, kind: str) -> None:
    paths = make_shapes(tmp_path, ("disk", shape))
    disk, made = (partial_path(paths.images / f"disk.{name}") for name in ("img", shape))
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", kind, disk, made)
    info = json.loads(run("qemu-img", "info", "--output=json", "-f", kind, made))
    assert info["virtual-size"] == (SIZE_MIB + 1) << 20


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    sides = [make_shapes(tmp_path / side, ("disk", "qcow2", "vhd")).images for side in ("one", "other")]
    for name in ("disk.img", "disk.qcow2", "disk.vhd"):
        one, other = (partial_path(side / name).read_bytes() for side in sides)
        assert one == other, name


def test_a_raw_disk_that_nobody_wants_does_not_stay(tmp_path: Path) -> None:
    paths = make_shapes(tmp_path, ("qcow2",))
    assert not list(tmp_path.rglob("disk.img*"))
    assert partial_path(paths.images / "disk.qcow2").exists()


def test_the_vhd_has_its_own_id_date_and_checksum_twice(tmp_path: Path) -> None:
    paths = make_shapes(tmp_path, ("vhd",))
    data = partial_path(paths.images / "disk.vhd").read_bytes()
    footer = data[-512:]
    assert data[:512] == footer
    seconds, checksum = struct.unpack_from(">I", footer, 24)[0], struct.unpack_from(">I", footer, 64)[0]
    assert seconds == EPOCH - datetime(2000, 1, 1, tzinfo=UTC).timestamp()
    assert footer[68:84] == derive_uuid("guest", "disk", "vhd").bytes
    assert checksum == ~sum(footer[:64] + footer[68:]) & 0xFFFFFFFF
    assert "No errors" in run("qemu-img", "check", "-f", "qcow2", make_qcow2(paths))


def make_qcow2(paths: Paths) -> Path:
    made = paths.images / "from-vhd.qcow2"
    run("qemu-img", "convert", "-f", "vpc", "-O", "qcow2", partial_path(paths.images / "disk.vhd"), made)
    return made


def test_no_shapes_no_steps(tmp_path: Path) -> None:
    assert make_shape_steps("guest", (), 64, tmp_path / "root", tmp_path, tmp_path) == []


def test_a_disk_beyond_two_tebibytes_is_refused() -> None:
    make_boot_sector("guest", 2 * 1024 * 1024 - 2)
    with pytest.raises(BuildError, match="2 TiB"):
        make_boot_sector("guest", 2 * 1024 * 1024)


@given(st.integers(0, 1023), st.integers(0, 254), st.integers(1, 63))
def test_chs_addresses_can_be_read_back(cylinder: int, head: int, sector: int) -> None:
    first, second, third = encode_chs((cylinder * 255 + head) * 63 + sector - 1)
    assert (first, second & 0x3F, third | (second & 0xC0) << 2) == (head, sector, cylinder)


def test_what_chs_cannot_say_is_the_highest_address() -> None:
    assert encode_chs(1024 * 255 * 63) == b"\xfe\xff\xff"
