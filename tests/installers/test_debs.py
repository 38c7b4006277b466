from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xenkiln.installers.debs import unpack_file, unpack_files


def make_deb(folder: Path, packing: str, size: int = 100_001) -> Path:
    tree = folder / f"tree-{packing}"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: sample\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: x\n"
    )
    (tree / "usr").mkdir()
    (tree / "usr" / "data").write_bytes(hashlib.sha256(b"x").digest() * (size // 32) + b"odd"[: size % 32])
    (tree / "usr" / "link").symlink_to("data")
    target = folder / f"{packing}.deb"
    argv = ["dpkg-deb", "--root-owner-group", f"-Z{packing}", "-b", str(tree), str(target)]
    subprocess.run(argv, check=True, capture_output=True)
    return target


def ask_dpkg(option: str, deb: Path) -> bytes:
    return subprocess.run(["dpkg-deb", option, deb], check=True, capture_output=True).stdout


@pytest.mark.parametrize("packing", ["xz", "gzip", "none", "zstd"])
@pytest.mark.parametrize("size", [100_000, 100_001])
def test_dpkg_sees_the_same_package(tmp_path: Path, packing: str, size: int) -> None:
    deb, plain = make_deb(tmp_path, packing, size), tmp_path / "plain.deb"
    assert unpack_file(deb, plain) == hashlib.sha256(deb.read_bytes()).hexdigest()
    assert ask_dpkg("--fsys-tarfile", plain) == ask_dpkg("--fsys-tarfile", deb)
    assert ask_dpkg("--ctrl-tarfile", plain) == ask_dpkg("--ctrl-tarfile", deb)
    assert (b"data.tar.zst" if packing == "zstd" else b"data.tar        ") in plain.read_bytes()


def test_a_file_with_another_checksum_is_named(tmp_path: Path) -> None:
    good, bad = make_deb(tmp_path, "xz"), tmp_path / "bad.deb"
    shutil.copy(good, bad)
    digest = hashlib.sha256(good.read_bytes()).hexdigest()
    with bad.open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"?")
    targets = [tmp_path / "one", tmp_path / "two"]
    assert unpack_files([good, bad], targets, [digest, digest]) == [bad]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(cut=st.integers(0, 2000), flip=st.integers(0, 2000), noise=st.binary(max_size=80))
def test_damage_is_never_an_exception_and_always_another_checksum(
    tmp_path: Path, cut: int, flip: int, noise: bytes
) -> None:
    deb = tmp_path / "xz.deb"
    if not deb.exists():
        make_deb(tmp_path, "xz")
    data = bytearray(deb.read_bytes())
    data[flip % len(data)] ^= 0x55
    damaged = tmp_path / "damaged.deb"
    damaged.write_bytes(bytes(data[: max(1, len(data) - cut)]) + noise)
    assert unpack_file(damaged, tmp_path / "plain.deb") == hashlib.sha256(damaged.read_bytes()).hexdigest()
