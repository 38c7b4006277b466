"""Disk images to another machine: only their data, going on where a cut left off, checked at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from xenkiln.errors import BuildError, HostError
from xenkiln.system.files import list_extents
from xenkiln.system.ssh import Remote
from xenkiln.system.ssh_channels import BLOCK

CONFIRM_BYTES = 8 << 20
"""After each of these the other side's answers are in, and the state file says so."""
STATE_FORMAT = "xenkiln transfer {sha256} {size:>20} {confirmed:>20}\n"
"""Always of the same length: overwritten in one small write, it is never seen half."""
MIB = 1 << 20

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all, data only."""


@dataclass(frozen=True)
class Parcel:
    """A finished file to be sent, its SHA-256 in hex, and where a cut transfer is remembered there."""

    local: Path
    sha256: str
    state: str

    @property
    def size(self) -> int:
        """Its length in bytes, holes included."""
        return self.local.stat().st_size


def put_file(remote: Remote, parcel: Parcel, target: str, on_progress: Progress) -> None:
    """Make `target` there the same as the local file, holes included.

    It grows as TARGET.partial and gets its name when its checksum is right. Raises BuildError when that is
    wrong twice; a ConnectionLostError leaves what the next call goes on from.
    """
    partial = f"{target}.partial"

    def prepare() -> None:
        # An image holds password hashes: it is nobody else's to read.
        remote.run(["sh", "-c", 'umask 077 && rm -f "$1" && : >"$1"', "sh", partial])
        with remote.open_file(partial) as file:
            file.truncate(parcel.size)

    same_size = ["sh", "-c", 'test "$(wc -c <"$1")" -eq "$2"', "sh", partial, str(parcel.size)]
    _put(remote, parcel, partial, prepare, lambda: remote.succeeds(same_size), on_progress)
    remote.run(["sh", "-c", 'mv -f "$1" "$2" && rm -f "$3"', "sh", partial, target, parcel.state])


def put_device(remote: Remote, parcel: Parcel, device: str, on_progress: Progress) -> None:
    """Make the first bytes of a block device there the same as the local file.

    A device has no holes: what was in them before is cleared first. Raises as put_file does.
    """
    if parcel.size % 512:
        raise BuildError("is not made of whole 512-byte sectors", place=str(parcel.local))

    def prepare() -> None:
        clear_device(remote, device, parcel.size)

    _put(remote, parcel, device, prepare, lambda: True, on_progress)
    remote.run(["rm", "-f", parcel.state])


def clear_device(remote: Remote, device: str, size: int) -> None:
    """Write zeros over the first `size` bytes: by the disk itself where it can, else by dd."""
    # util-linux before 2.28 has no -z, and a device may refuse it.
    if remote.succeeds(["blkdiscard", "-z", "-l", str(size), device]):
        return
    zero = ["dd", "if=/dev/zero", f"of={device}", "conv=notrunc"]
    remote.run([*zero, f"bs={MIB}", f"count={size // MIB}"])
    if rest := size % MIB:
        remote.run([*zero, "bs=512", f"seek={(size - rest) // 512}", f"count={rest // 512}"])


def hash_remote(remote: Remote, path: str, size: int | None = None) -> str:
    """SHA-256 in hex of a file there, or of the first `size` bytes of a device."""
    if size is None:
        return remote.run(["sha256sum", path]).out.split()[0].lstrip("\\")
    script = 'head -c "$1" "$2" | sha256sum'
    return remote.run(["sh", "-c", script, "sh", str(size), path]).out.split()[0]


def _put(
    remote: Remote,
    parcel: Parcel,
    path: str,
    prepare: Callable[[], None],
    is_resumable: Callable[[], bool],
    on_progress: Progress,
) -> None:
    """Send, check, and once more from the start when the check fails."""
    start = _read_state(remote, parcel)
    if start is not None and is_resumable():
        remote.note(f"# {path}: going on from byte {start}")
    else:
        start = _begin(remote, parcel, prepare)
    for attempts_left in (1, 0):
        _send_data(remote, parcel, path, start, on_progress)
        remote.run(["sync", path])  # before coreutils 8.24 it takes no names, and writes out everything
        found = hash_remote(remote, path, parcel.size)
        if found == parcel.sha256:
            return
        remote.note(f"# {path} has the checksum {found}, it should be {parcel.sha256}")
        if attempts_left:
            start = _begin(remote, parcel, prepare)
    remote.run(["rm", "-f", parcel.state])
    raise HostError(
        "what arrives is not what was sent, twice",
        place=f"{remote.name}:{path}",
        next_step="check that host's disk and memory (dmesg there), and that nobody else writes to this file",
    )


def _begin(remote: Remote, parcel: Parcel, prepare: Callable[[], None]) -> int:
    """Start from nothing; returns how far we are."""
    remote.run(["rm", "-f", parcel.state])
    prepare()
    remote.run(["sh", "-c", 'cat >"$1"', "sh", parcel.state], input_text=_describe_state(parcel, 0))
    return 0


def _send_data(remote: Remote, parcel: Parcel, path: str, start: int, on_progress: Progress) -> None:
    """Every block with data from `start` on; what is confirmed is noted there after each group."""
    total, done = 0, 0
    with parcel.local.open("rb", buffering=0) as stream:
        size = parcel.size
        for offset, length in list_extents(stream.fileno(), size):
            total += length
            done += max(0, min(offset + length, start) - offset)
        with remote.open_file(path) as file, remote.open_file(parcel.state) as state:
            for group in _group_blocks(stream.fileno(), size, start):
                file.write_blocks([(offset, data) for offset, data in group if data.count(0) != len(data)])
                end = group[-1][0] + len(group[-1][1])
                done += sum(len(data) for _, data in group)
                state.write_blocks([(0, _describe_state(parcel, end).encode())])
                on_progress(done, total)


def _group_blocks(descriptor: int, size: int, start: int) -> Iterator[list[tuple[int, bytes]]]:
    """The data from `start` on as (offset, block), in lists of CONFIRM_BYTES."""
    group: list[tuple[int, bytes]] = []
    held = 0
    for extent, length in list_extents(descriptor, size):
        offset, end = max(extent, start), extent + length
        while offset < end:
            data = os.pread(descriptor, min(BLOCK, end - offset), offset)
            if not data:
                raise BuildError("the file shrank while it was sent", place=f"descriptor {descriptor}")
            group.append((offset, data))
            offset += len(data)
            held += len(data)
            if held >= CONFIRM_BYTES:
                yield group
                group, held = [], 0
    if group:
        yield group


def _describe_state(parcel: Parcel, confirmed: int) -> str:
    return STATE_FORMAT.format(sha256=parcel.sha256, size=parcel.size, confirmed=confirmed)


def _read_state(remote: Remote, parcel: Parcel) -> int | None:
    """How far an earlier transfer of this very file came, in bytes; None for none."""
    words = remote.run(["cat", parcel.state], accept=(0, 1)).out.split()
    known = words[:4] == ["xenkiln", "transfer", parcel.sha256, str(parcel.size)]
    return int(words[4]) if known and len(words) == 5 and words[4].isdecimal() else None
