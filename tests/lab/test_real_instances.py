"""Instances on a real Xen host: what a guest is told, who shares a host, and that nothing stays however they end."""

from __future__ import annotations

import fcntl
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from doit_runs import run_doit
from processes import is_alive

from xenkiln.families.dom0 import MODULES
from xenkiln.lab import host
from xenkiln.lab.dom0 import make_key
from xenkiln.lab.instance import start_instance
from xenkiln.lab.meta_data import make_meta_data, name_addresses
from xenkiln.lab.places import AT_ONCE, hold_file
from xenkiln.lab.session import HOST_LOCK, USERS_LOCK, Lab
from xenkiln.model.domain import Deploy
from xenkiln.system.layout import PROJECT
from xenkiln.system.services import Service, ended_service
from xenkiln.system.ssh import Remote, connect

pytestmark = [pytest.mark.root, pytest.mark.network, pytest.mark.lab]
IMAGES = PROJECT / "build" / "images"
TINY = IMAGES / "tiny"
WAIT_SECONDS = 300
"""For a guest to come up on a busy machine, its host included."""
USER_DATA = "#!/bin/sh\n# größer\n"


@dataclass
class Running:
    """An instance that was started, and its folder."""

    folder: Path
    process: Service

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "status.json").read_text())
        return found

    @property
    def console(self) -> str:
        path = self.folder / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait as long as that takes, or until it is certain that it will not be."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not is_so():
            assert time.monotonic() < deadline, self.console[-2000:]
            assert self.process.poll() is None, self.status
            time.sleep(0.2)

    def wait_until_up(self) -> None:
        self.wait_until(lambda: "tiny: ready" in self.console and "meta-data: fetched" in self.console)
        assert self.status["state"] == "running"

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(WAIT_SECONDS) == 0
        assert (self.status["state"], self.status["reason"]) == ("ended", "it was told to end: SIGTERM")

    @contextmanager
    def log_in(self) -> Iterator[Remote]:
        target = Deploy(host="127.0.0.1", port=self.status["ssh_port"], key_file=str(self.folder / "key"))
        with connect(target, lambda _: None, trust_any=True) as remote:
            yield remote


@contextmanager
def start(lab: Lab, folder: Path, **changes: object) -> Iterator[Running]:
    """An instance of tiny with a key and user-data of its own."""
    folder.mkdir()
    make_key(folder / "key", folder.name)
    told = make_meta_data(folder.name, "", "", f"{USER_DATA}# {folder.name}\n")
    spec = {
        "name": folder.name, "memory_mib": 96, "vcpus": 1, "kernel": str(TINY / "vmlinuz"),
        "ramdisk": str(TINY / "initrd.img"), "root": str(TINY / "root.img"), "root_device": "xvda1",
        "arguments": "root=/dev/xvda1 ro console=hvc0", "public_key": (folder / "key.pub").read_text().strip(),
        "meta_data": {path: body for path, body in told.items() if path not in name_addresses("")},
    } | changes  # fmt: skip
    (folder / "spec.json").write_text(json.dumps(spec))
    with ended_service(start_instance(lab, folder)) as process:
        yield Running(folder, process)


def is_free(path: Path) -> bool:
    with hold_file(path, AT_ONCE) as held:
        return held is not None


def list_processes(lab: Lab) -> list[str]:
    """Whatever runs in the lab's folder, or was told of it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            place, words = (process / "cwd").readlink(), (process / "cmdline").read_text(errors="replace")
        except OSError:
            continue
        if is_alive(int(process.name)) and (str(lab.folder) in words or place.is_relative_to(lab.folder)):
            found.append(words)
    return found


def wait_until_nothing_runs(lab: Lab) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_free(lab.folder / HOST_LOCK) or lab.host.exists() or list_processes(lab):
        assert time.monotonic() < deadline, list_processes(lab)
        time.sleep(0.2)


@pytest.fixture(scope="module")
def built() -> None:
    run_doit("build:lab-dom0", "build:tiny")


@pytest.fixture
def own_lab(built: None, tmp_path: Path) -> Lab:
    return Lab(tmp_path / "lab", IMAGES / "lab-dom0", " ".join(MODULES))


@pytest.fixture(scope="module")
def lab(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab whose host, once an instance has had it started, stays until the last of these tests is done."""
    lab = Lab(tmp_path_factory.mktemp("shared") / "lab", IMAGES / "lab-dom0", " ".join(MODULES))
    with hold_file(lab.folder / USERS_LOCK, fcntl.LOCK_SH):
        yield lab
    wait_until_nothing_runs(lab)


def check_inside(one: Running) -> None:
    """Its key has let us in; it was told what its spec says, and its own address."""
    with one.log_in() as inside:
        assert inside.run(["cat", "/sys/hypervisor/type"]).out == "xen\n"
        assert inside.run(["cat", "/run/xenkiln/user-data"]).out.rstrip() == f"{USER_DATA}# {one.folder.name}"
        for name in ("local-ipv4", "public-hostname"):
            assert inside.run(["cat", f"/run/xenkiln/meta-data/{name}"]).out.strip() == one.status["address"]
        assert one.status["address"] in inside.run(["ip", "-o", "addr"]).out
        inside.run(["sh", "-c", "mount -o remount,rw / && echo mine >/mine"])


def test_instances_share_a_host_and_each_ends_alone(own_lab: Lab, tmp_path: Path) -> None:
    before = (TINY / "root.img").stat().st_mtime_ns
    with start(own_lab, tmp_path / "i-1") as first, start(own_lab, tmp_path / "i-2") as second:
        first.wait_until_up()
        second.wait_until_up()
        assert [path.name for path in own_lab.folder.glob("host*") if path.is_dir()] == ["host"]
        assert {first.status["address"], second.status["address"]} == {"10.0.2.50", "10.0.2.51"}
        check_inside(first)
        check_inside(second)
        address = first.status["address"]
        first.process.kill()
        first.process.wait()
        assert first.status["state"] == "running"  # it could not say more; its lock is free
        assert is_free(first.folder / "instance.lock")
        with start(own_lab, tmp_path / "i-3") as third:
            third.wait_until_up()
            assert third.status["address"] == address
            check_inside(third)
            third.end()
        with second.log_in() as inside:
            assert inside.run(["cat", "/mine"]).out == "mine\n"
        second.end()
    wait_until_nothing_runs(own_lab)
    assert (TINY / "root.img").stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.glob("i-*/guest")] == ["guest"]  # what was killed could not tidy up


def test_killing_the_only_instance_leaves_nothing_running(own_lab: Lab, tmp_path: Path) -> None:
    with start(own_lab, tmp_path / "i-1") as only:
        only.wait_until(lambda: only.status["state"] == "running")
        assert list_processes(own_lab)
        only.process.kill()
        only.process.wait()
        wait_until_nothing_runs(own_lab)


def test_a_guest_that_reboots_runs_on_and_one_that_powers_off_has_ended(lab: Lab, tmp_path: Path) -> None:
    with start(lab, tmp_path / "i-1") as one:
        one.wait_until_up()
        with one.log_in() as inside:
            inside.run(["sh", "-c", "(sleep 1; reboot -f) >/dev/null 2>&1 &"])
        one.wait_until(lambda: one.console.count("Linux version") == 2)
        one.wait_until(lambda: one.console.count("meta-data: fetched") == 2)
        assert one.status["state"] == "running"
        with one.log_in() as inside:
            inside.run(["sh", "-c", "(sleep 1; poweroff -f) >/dev/null 2>&1 &"])
        assert one.process.wait(WAIT_SECONDS) == 0
    assert one.status == {"state": "ended", "address": "", "ssh_port": None,
                          "reason": "its domain has ended: it powered off, or crashed and was destroyed"}  # fmt: skip


def test_a_kernel_without_its_ramdisk_panics_and_one_that_is_none_is_refused(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(b"no kernel" * 1000)
    with (
        start(lab, tmp_path / "i-1", ramdisk=None) as bare,
        start(lab, tmp_path / "i-2", kernel=str(tmp_path / "vmlinuz")) as refused,
    ):
        assert refused.process.wait(WAIT_SECONDS) == 1
        assert bare.process.wait(WAIT_SECONDS) == 0
    assert refused.status["state"] == "failed"
    assert "xl cannot create it" in refused.status["reason"]
    assert "xc_dom_parse_image failed" in refused.status["reason"]
    assert "Kernel panic" in bare.console
    assert bare.status["state"] == "ended"
    assert bare.status["reason"] == "its kernel panicked, and its domain has ended"


def test_an_instance_is_lost_with_its_host(lab: Lab, tmp_path: Path) -> None:
    with start(lab, tmp_path / "i-1") as one:
        one.wait_until(lambda: one.status["state"] == "running")
        assert host.kill_machine(lab.host)
        assert one.process.wait(WAIT_SECONDS) == 0
    assert one.status["state"] == "ended"
    assert one.status["reason"] == "the Xen host that it ran on has ended"
