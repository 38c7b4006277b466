"""Bundles made by others, on a disk that is full, and runs that are ended."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import random
import resource
import signal
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.by_hand import run
from bundle.made import LAYOUTS, MACHINE, SECRET, read
from xenkiln.bundle import extraction
from xenkiln.bundle.manifest import Manifest
from xenkiln.bundle.unbundle import unbundle
from xenkiln.errors import BuildError
from xenkiln.system.files import allocated_bytes

IMAGE = bytes(8192) + random.Random(1).randbytes(5000) + bytes(20000) + b"end" + bytes(9000)


def archive_by_hand(image: bytes = IMAGE, name: str = "some/where/disk.img") -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo(name)
        member.size = len(image)
        archive.addfile(member, io.BytesIO(image))
    return written.getvalue()


def encrypt(packed: bytes) -> bytes:
    return run(["openssl", "enc", "-aes-128-cbc", "-K", SECRET.key.hex(), "-iv", SECRET.iv.hex()], packed)


def split(cipher: bytes, places: list[int], archive: bytes, folder: Path) -> Manifest:
    """Parts that end at these places, empty ones among them."""
    folder.mkdir(exist_ok=True)
    ends = [0, *sorted(places), len(cipher)]
    parts = []
    for number, (start, end) in enumerate(pairwise(ends)):
        data = cipher[start:end]
        (folder / f"part-{number}").write_bytes(data)
        parts.append((f"part-{number}", hashlib.sha1(data).hexdigest()))
    return Manifest(MACHINE, len(IMAGE), len(cipher), hashlib.sha1(archive).hexdigest(), tuple(parts),
                    ("", ""), ("", ""), b"", "")  # fmt: skip


@pytest.fixture(scope="module")
def made() -> tuple[bytes, bytes]:
    """An archive, and what is to be split of it."""
    archive = archive_by_hand()
    return archive, encrypt(gzip.compress(archive, 9))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_parts_of_any_sizes_are_put_together(data: st.DataObject, made: tuple[bytes, bytes], tmp_path: Path) -> None:
    """euca2ools ends with an empty one where the others are full."""
    archive, cipher = made
    near_the_end = st.sampled_from([0, 1, 15, 16, 17]).map(lambda count: len(cipher) - count)
    places = data.draw(st.lists(st.integers(0, len(cipher)) | near_the_end, max_size=6))
    target = tmp_path / "again"
    target.unlink(missing_ok=True)
    unbundle(split(cipher, places, archive, tmp_path / "parts"), tmp_path / "parts", SECRET, target)
    assert target.read_bytes() == IMAGE
    assert allocated_bytes(target) <= 5 * 4096


MISTAKES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing at all": (lambda archive: b"", "do not end as AES"),
    "half a block": (lambda archive: encrypt(gzip.compress(archive))[:-8], "do not end as AES"),
    "no padding": (lambda archive: encrypt(gzip.compress(archive))[:-16], "do not end as AES"),
    "an empty stream": (lambda archive: encrypt(b""), "gzip stream of the bundle ends too early"),
    "half a stream": (lambda archive: encrypt(gzip.compress(archive)[:-9]), "gzip stream of the bundle ends too early"),
    "a wrong sum": (lambda archive: encrypt(gzip.compress(archive)[:-8] + bytes(8)), "is no gzip stream"),
    "no stream": (lambda archive: encrypt(archive), "is no gzip stream"),
    "two streams": (lambda archive: encrypt(2 * gzip.compress(archive)), "something behind the gzip stream"),
    "half an archive": (lambda archive: encrypt(gzip.compress(archive[:9000])), "the archive ends too early"),
    "other bytes": (lambda archive: encrypt(gzip.compress(b"\1" * 512 + archive)), "begins with a member of type"),
    "a wrong header": (lambda archive: encrypt(gzip.compress(b"x" + archive[1:])), "is no tar archive: bad checksum"),
    "an empty archive": (lambda archive: encrypt(gzip.compress(b"")), "begins with a member of type b''"),
    "no archive": (lambda archive: encrypt(gzip.compress(bytes(10240))), "the archive holds 0 bytes"),
    "more behind it": (lambda archive: encrypt(gzip.compress(archive + bytes(512))), "the archive's SHA-1 is"),
    "another image": (lambda archive: encrypt(gzip.compress(archive_by_hand(b"x"))), "holds 1 bytes, the manifest"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_what_is_not_the_whole_is_refused(what: str, made: tuple[bytes, bytes], tmp_path: Path) -> None:
    make, told = MISTAKES[what]
    found = split(make(made[0]), [16], made[0], tmp_path / "parts")
    with pytest.raises(BuildError, match=told):
        unbundle(found, tmp_path / "parts", SECRET, tmp_path / "again")
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_part_that_is_no_file_is_none(make: Callable[[Path], None], small: Path, tmp_path: Path) -> None:
    part = small.with_name("root.img.part.01")
    part.unlink()
    make(part)
    with pytest.raises(BuildError, match=r"root\.img\.part\.01 \(part 1 of 3\): there is no such part"):
        unbundle(read(small), small.parent, SECRET, tmp_path / "again")


def test_a_part_too_large_for_memory_is_none(small: Path, tmp_path: Path) -> None:
    os.truncate(small.with_name("root.img.part.01"), 1 << 40)
    with pytest.raises(BuildError, match="a part of 1099511627776 bytes is none"):
        unbundle(read(small), small.parent, SECRET, tmp_path / "again")


@pytest.fixture
def limit() -> Iterator[Callable[[int], None]]:
    """Sets how large a file may become, as a disk that is full does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_cannot_be_written_is_named_and_leaves_nothing(
    small: Path, tmp_path: Path, limit: Callable[[int], None]
) -> None:
    limit(9000)
    with pytest.raises(OSError, match="File too large") as caught:
        unbundle(read(small), small.parent, SECRET, tmp_path / "again")
    limit(resource.RLIM_INFINITY)
    assert caught.value.filename == str(tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "root.img"]


def test_a_disk_that_takes_little_at_a_time_gets_all(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda image, data, position: write(image, data[:1000], position))
    unbundle(read(small), small.parent, SECRET, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "root.img").read_bytes()


def fill_disk(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupt(*_: object) -> int:
    signal.raise_signal(signal.SIGINT)
    return 0


@pytest.mark.parametrize("call", ["pwrite", "fsync", "link"])
@pytest.mark.parametrize(("end", "error"), [(fill_disk, OSError), (interrupt, KeyboardInterrupt)])
def test_a_run_that_is_ended_leaves_nothing(
    call: str, end: Callable[..., int], error: type[BaseException], small: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(os, call, end)
    with pytest.raises(error):
        unbundle(read(small), small.parent, SECRET, tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "root.img"]


def endless_map() -> Iterator[bytes]:
    """A sparse member whose list of data goes on for ever."""
    header = tarfile.TarInfo("disk.img")
    header.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    yield bytes(block)
    while True:
        yield (b"%011o\0" % 512 * 42 + b"\1").ljust(512, b"\0") * 1000


def test_a_map_that_does_not_end_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "image").open("wb") as image, pytest.raises(BuildError, match="its header does not end"):
        extraction.take_image(extraction.ArchiveStream(endless_map()), 1 << 40, image.fileno(), "x")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_header_that_was_changed_is_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    kind = data.draw(st.sampled_from(list(LAYOUTS)))
    head = bytearray(LAYOUTS[kind]("disk.img", 1 << 20, [(8192 * number, 4096) for number in range(30)]).head)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(head) - 1))
        head[start : start + 12] = data.draw(st.binary(min_size=1, max_size=12))
    if len(head) >= 512 and data.draw(st.booleans()):
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head[:512])
    chunks = [bytes(head), b"\1" * (1 << 20), bytes(10240)]
    with (tmp_path / "image").open("wb") as image, suppress(BuildError):
        extraction.take_image(extraction.ArchiveStream(iter(chunks)), 1 << 20, image.fileno(), "x")
        assert (tmp_path / "image").stat().st_size == 1 << 20


def test_a_part_that_is_named_twice_is_refused(small: Path) -> None:
    found = read(small)
    assert len(found.parts) == 3
    text = small.read_bytes().replace(b'<parts count="3">', b"<parts>")
    small.write_bytes(text)
    assert read(small).parts == found.parts
    again = text[text.index(b'<part index="1">') : text.index(b'<part index="2">')]
    small.write_bytes(text.replace(again, again + again))
    with pytest.raises(BuildError, match="not numbered from 0"):
        read(small)
