"""A host that belongs to none of its users: it is there while there is one, and ends with the last."""

from __future__ import annotations

import fcntl
import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import FakeToolMaker

from xenkiln.errors import HostError, XenkilnError
from xenkiln.lab import dom0, host
from xenkiln.lab.keeper import main, start_kept, wait_for_keeper
from xenkiln.lab.places import AT_ONCE, hold_file
from xenkiln.lab.session import HOST_LOCK, Lab, open_lab
from xenkiln.system.layout import PROJECT

GUEST_MIB = 96
WAIT_SECONDS = 60
KEYGEN = """
for last; do :; done
if [ "$1" = -l ]; then echo '256 SHA256:abc lab'; else touch "$last" "$last.pub"; fi
"""
USER = """
import sys, time
from functools import partial
from pathlib import Path
from xenkiln.lab.keeper import start_kept
from xenkiln.lab.session import Lab, open_lab
folder, images = map(Path, sys.argv[1:])
start = partial(start_kept, folder.with_name("user.out"))
with open_lab(Lab(folder, images, ""), 96, lambda _: None, start) as session:
    print(session.place, session.is_own, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_tool: FakeToolMaker) -> Lab:
    """Everything that a host is made of, with a stand-in for qemu."""
    images = tmp_path / "images"
    images.mkdir()
    (images / "SHA256SUMS").write_text("0123  root.img\n")
    (images / "vmlinuz").write_bytes(b"packed kernel")
    (images / "initrd.img").write_bytes(gzip.compress(b"ramdisk"))
    lab = Lab(tmp_path / "lab", images, "xen-blkback")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dom0, "read_hypervisor", lambda image, scratch: b"xen")
        patch.setattr(dom0, "unpack_kernel", lambda data: b"kernel")
        dom0.unpack_boot_files(images, lab.boot_files)
    fake_tool("qemu-system-x86_64", f'exec {sys.executable} {Path(__file__).with_name("pretend_qemu.py")} "$@"')
    fake_tool("qemu-img", "exit 0")
    fake_tool("debugfs", "exit 1")
    fake_tool("ssh-keygen", KEYGEN)
    return lab


def is_free(path: Path) -> bool:
    with hold_file(path, AT_ONCE) as held:
        return held is not None


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def say_nothing(_: str) -> None:
    return None


def has_ended(lab: Lab) -> bool:
    return is_free(lab.folder / HOST_LOCK) and not lab.host.exists()


def start_user(lab: Lab) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", USER, str(lab.folder), str(lab.images)]
    return subprocess.Popen(words, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_kept_host_ends_with_the_last_of_its_users_however_that_ends(lab: Lab, tmp_path: Path) -> None:
    with start_user(lab) as first:
        assert first.stdout
        assert first.stdout.readline() == "0 False\n"
        state = host.read_state(lab.host)
        start = partial(start_kept, tmp_path / "second.out")
        with open_lab(lab, GUEST_MIB, say_nothing, start) as second, start_user(lab) as third:
            assert (second.place, second.is_own, second.state) == (1, False, state)
            assert third.stdout
            assert third.stdout.readline() == "2 False\n"
            first.kill()
            first.wait()
            third.communicate()
            assert third.returncode == 0
            assert not second.ends_now()
            assert host.read_state(lab.host) == state
            assert not is_free(lab.folder / HOST_LOCK)
    wait_until(lambda: has_ended(lab))
    assert not (tmp_path / "second.out").exists()


def test_users_that_come_at_the_same_time_share_one_host(lab: Lab) -> None:
    users = [start_user(lab) for _ in range(2)]
    places = [user.stdout.readline() for user in users if user.stdout]
    assert sorted(places) == ["0 False\n", "1 False\n"]
    assert sorted(path.name for path in lab.folder.glob("host*")) == ["host", "host.lock"]
    for user in users:
        user.communicate()
    wait_until(lambda: has_ended(lab))


def test_a_keeper_that_is_killed_takes_its_host_with_it(lab: Lab, tmp_path: Path) -> None:
    with start_user(lab) as user:
        assert user.stdout
        assert user.stdout.readline() == "0 False\n"
        with open_lab(lab, GUEST_MIB, say_nothing) as session:
            os.kill(find_process("xenkiln.lab.keeper", lab), signal.SIGKILL)
            wait_until(session.is_lost)


def test_a_host_that_dies_is_not_kept_and_another_takes_its_place(lab: Lab) -> None:
    with start_user(lab) as user:
        assert user.stdout
        assert user.stdout.readline() == "0 False\n"
        with open_lab(lab, GUEST_MIB, say_nothing) as session:
            os.kill(find_process("-qmp", lab), signal.SIGKILL)
            wait_until(session.is_lost)
        wait_until(lambda: has_ended(lab))
        with start_user(lab) as other:
            assert other.stdout
            assert other.stdout.readline() == "0 False\n"
    wait_until(lambda: has_ended(lab))


def find_process(word: str, lab: Lab) -> int:
    """What was started with that word, in the host's folder or for the lab."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
            if word in words and (str(lab.folder) in words or (process / "cwd").readlink() == lab.host):
                return int(process.name)
        except OSError:
            continue
    raise AssertionError(f"nothing runs with {word}")


def test_why_no_host_can_be_started_is_said_by_the_keeper(
    lab: Lab, tmp_path: Path, fake_tool: FakeToolMaker
) -> None:
    fake_tool("qemu-system-x86_64", "echo 'qemu: cannot set up guest memory'; exit 1")
    with pytest.raises(HostError, match=r"qemu ended with code 1\n  \| qemu: cannot set up guest memory") as caught:
        wait_for_keeper(tmp_path / "keeper.out", lab, GUEST_MIB)
    assert caught.value.fact.count("next:") == 1
    assert has_ended(lab)


def test_a_keeper_that_dies_is_told_of(lab: Lab, tmp_path: Path, fake_tool: FakeToolMaker) -> None:
    fake_tool("qemu-system-x86_64", "kill -9 $PPID; sleep 60")
    with pytest.raises(HostError, match="what keeps the Xen host has ended: killed by SIGKILL"):
        wait_for_keeper(tmp_path / "keeper.out", lab, GUEST_MIB)


@pytest.mark.parametrize("missing", ["SHA256SUMS", "memory"])
def test_nothing_is_started_where_something_is_missing(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "memory":
        monkeypatch.setattr(host, "available_mib", lambda: 100)
    else:
        (lab.images / missing).unlink()
    monkeypatch.setattr("xenkiln.lab.keeper.start_service", lambda *_, **__: pytest.fail("a keeper is started"))
    wanted = "100 MiB of memory are available" if missing == "memory" else "the lab's Xen host has not been built"
    start = partial(start_kept, tmp_path / "user.out")
    with pytest.raises(XenkilnError, match=wanted), open_lab(lab, GUEST_MIB, say_nothing, start):
        pytest.fail("a host is there")


def test_a_keeper_keeps_nothing_where_a_host_runs(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(lab.folder), str(lab.images), lab.modules, str(GUEST_MIB)]
    with hold_file(lab.folder / HOST_LOCK, fcntl.LOCK_EX):
        assert main(words) == 0
    assert capsys.readouterr().out == ""
    assert not lab.host.exists()
