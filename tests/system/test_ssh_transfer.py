"""Images to a real sshd: sparse, resumed after a cut, checked, and honest about a full disk."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_host import SshHost, run_cutting_proxy, run_sshd

from xenkiln.errors import CommandError, HostError
from xenkiln.system.files import allocated_bytes, hash_file
from xenkiln.system.ssh import ConnectionLostError, connect
from xenkiln.system.transfer import CONFIRM_BYTES, Parcel, put_device, put_file

MIB = 1 << 20
DATA_MIB = 24


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    with run_sshd(tmp_path_factory.mktemp("sshd") / "host") as running:
        yield running


@pytest.fixture
def parcel(tmp_path: Path) -> Parcel:
    """Make an image with data in the middle and far behind, and 76 MiB of holes."""
    image = tmp_path / "root.img"
    data = random.Random(5).randbytes(DATA_MIB * MIB)
    with image.open("wb") as stream:
        stream.truncate(100 * MIB)
        stream.seek(3 * MIB)
        stream.write(data[: 20 * MIB])
        stream.seek(80 * MIB)
        stream.write(data[20 * MIB :])
    return Parcel(image, hash_file(image), str(tmp_path / "there/root.state"))


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    return tmp_path / "there" / "root.img"


def ignore(_line: str) -> None:
    return


def no_progress(_done: int, _total: int) -> None:
    return


def test_an_image_arrives_with_its_holes(host: SshHost, parcel: Parcel, there: Path) -> None:
    steps: list[tuple[int, int]] = []
    with connect(host.make_target(), ignore) as remote:
        put_file(remote, parcel, str(there), lambda done, total: steps.append((done, total)))
    assert hash_file(there) == parcel.sha256
    assert allocated_bytes(there) <= allocated_bytes(parcel.local) + MIB
    assert [path.name for path in there.parent.iterdir()] == ["root.img"]
    assert steps == sorted(steps)
    assert steps[-1] == (DATA_MIB * MIB, DATA_MIB * MIB)


def test_a_cut_transfer_goes_on_where_it_was(host: SshHost, parcel: Parcel, there: Path) -> None:
    with run_cutting_proxy(host.port, 14 * MIB) as (port, _):
        known = host.folder / "proxy_hosts"
        known.write_text((host.folder / "known_hosts").read_text().replace(str(host.port), str(port)))
        target = host.make_target(port=port, known_hosts=str(known))
        with pytest.raises(ConnectionLostError), connect(target, ignore) as remote:
            put_file(remote, parcel, str(there), no_progress)
    assert not there.exists()
    assert Path(parcel.state).exists()
    with run_cutting_proxy(host.port, 1 << 60) as (port, passed):
        known.write_text((host.folder / "known_hosts").read_text().replace(str(host.port), str(port)))
        with connect(host.make_target(port=port, known_hosts=str(known)), ignore) as remote:
            put_file(remote, parcel, str(there), no_progress)
    assert hash_file(there) == parcel.sha256
    assert passed[0] < DATA_MIB * MIB - CONFIRM_BYTES + MIB


def test_a_session_killed_there_goes_on_where_it_was(host: SshHost, parcel: Parcel, there: Path) -> None:
    def kill(done: int, _total: int) -> None:
        if CONFIRM_BYTES <= done < 2 * CONFIRM_BYTES:
            host.kill_sessions()

    with pytest.raises(ConnectionLostError), connect(host.make_target(), ignore) as remote:
        put_file(remote, parcel, str(there), kill)
    steps: list[int] = []
    with connect(host.make_target(), ignore) as remote:
        put_file(remote, parcel, str(there), lambda done, _total: steps.append(done))
    assert steps[0] > CONFIRM_BYTES
    assert hash_file(there) == parcel.sha256


def interrupt(done: int, _total: int) -> None:
    if done >= CONFIRM_BYTES:
        raise KeyboardInterrupt


def stop_in_the_middle(host: SshHost, parcel: Parcel, there: Path) -> Path:
    with pytest.raises(KeyboardInterrupt), connect(host.make_target(), ignore) as remote:
        put_file(remote, parcel, str(there), interrupt)
    return there.with_name("root.img.partial")


@pytest.mark.parametrize("damage", ["data", "hole", "shorter", "gone", "state"])
def test_a_damaged_partial_file_is_sent_again(host: SshHost, parcel: Parcel, there: Path, damage: str) -> None:
    partial = stop_in_the_middle(host, parcel, there)
    if damage in ("data", "hole"):
        with partial.open("r+b") as stream:
            stream.seek(4 * MIB if damage == "data" else 60 * MIB)
            stream.write(b"not what was sent")
    elif damage == "shorter":
        os.truncate(partial, MIB)
    elif damage == "gone":
        partial.unlink()
    else:
        Path(parcel.state).write_text("xenkiln transfer")
    with connect(host.make_target(), ignore) as remote:
        put_file(remote, parcel, str(there), no_progress)
    assert hash_file(there) == parcel.sha256


def test_what_arrives_wrong_twice_is_an_error(host: SshHost, parcel: Parcel, there: Path) -> None:
    log: list[str] = []
    wrong = Parcel(parcel.local, "0" * 64, parcel.state)
    with connect(host.make_target(), log.append) as remote, pytest.raises(HostError, match="twice"):
        put_file(remote, wrong, str(there), no_progress)
    assert not there.exists()
    assert sum("sha256sum" in line and "$ " in line for line in log) == 2


def test_another_image_does_not_go_on_from_the_first(host: SshHost, parcel: Parcel, there: Path) -> None:
    stop_in_the_middle(host, parcel, there)
    with parcel.local.open("r+b") as stream:
        stream.seek(3 * MIB)
        stream.write(b"another build")
    other = Parcel(parcel.local, hash_file(parcel.local), parcel.state)
    steps: list[int] = []
    with connect(host.make_target(), ignore) as remote:
        put_file(remote, other, str(there), lambda done, _total: steps.append(done))
    assert steps[0] == CONFIRM_BYTES
    assert hash_file(there) == other.sha256


def test_a_folder_that_may_not_be_written_is_named(host: SshHost, parcel: Parcel) -> None:
    with connect(host.make_target(), ignore) as remote, pytest.raises(CommandError, match=r"/proc/root\.img\.partial"):
        put_file(remote, parcel, "/proc/root.img", no_progress)


@pytest.mark.root
def test_a_full_disk_is_named_and_the_transfer_goes_on_later(host: SshHost, parcel: Parcel, there: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "small", str(there.parent)]
    subprocess.run(mount, check=True)
    try:
        with connect(host.make_target(), ignore) as remote, pytest.raises(HostError, match="no space is left"):
            put_file(remote, parcel, str(there), no_progress)
        subprocess.run(["mount", "-o", "remount,size=64m", str(there.parent)], check=True)
        steps: list[int] = []
        with connect(host.make_target(), ignore) as remote:
            put_file(remote, parcel, str(there), lambda done, _total: steps.append(done))
        assert steps[0] > CONFIRM_BYTES
        assert hash_file(there) == parcel.sha256
    finally:
        subprocess.run(["umount", str(there.parent)], check=True)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """Set up a loop device of 108 MiB, full of another's data."""
    backing = tmp_path / "volume"
    backing.write_bytes(b"old data" * (108 * MIB // 8))
    command = ["losetup", "--find", "--show", str(backing)]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    yield Path(name)
    subprocess.run(["losetup", "--detach", name], check=True)


@pytest.mark.root
@pytest.mark.parametrize("has_blkdiscard", [True, False])
def test_a_volume_holds_the_image_and_nothing_old_in_its_holes(
    host: SshHost, parcel: Parcel, there: Path, device: Path, has_blkdiscard: bool
) -> None:
    blkdiscard = host.tools / "blkdiscard"
    if not has_blkdiscard:
        blkdiscard.write_text("#!/bin/sh\necho 'blkdiscard: invalid option -- z' >&2\nexit 1\n")
        blkdiscard.chmod(0o755)
    try:
        with pytest.raises(KeyboardInterrupt), connect(host.make_target(), ignore) as remote:
            put_device(remote, parcel, str(device), interrupt)
        steps: list[int] = []
        with connect(host.make_target(), ignore) as remote:
            put_device(remote, parcel, str(device), lambda done, _total: steps.append(done))
    finally:
        blkdiscard.unlink(missing_ok=True)
    assert steps[0] > CONFIRM_BYTES
    with device.open("rb") as stream:
        assert stream.read(100 * MIB) == parcel.local.read_bytes()
        assert stream.read(8) == b"old data"
    assert list(there.parent.iterdir()) == []
