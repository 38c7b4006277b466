"""Guests of a real Xen: what comes up, and what each kind of breakage is told to be."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from doit_runs import run_doit
from real_guests import Image, boot_image, copy_image

from xenkiln.families.dom0 import MODULES
from xenkiln.lab import diagnosis, host, machine, monitor
from xenkiln.lab.attempts import NoRoomError
from xenkiln.lab.boot import Outcome
from xenkiln.lab.console import KEPT_BYTES
from xenkiln.lab.diagnosis import Cause
from xenkiln.lab.session import Lab, Session, open_lab
from xenkiln.model.boot import Boot, BootCommand
from xenkiln.system.layout import PROJECT
from xenkiln.system.ssh import GRACE_SECONDS

pytestmark = [pytest.mark.root, pytest.mark.network, pytest.mark.lab]
IMAGES = PROJECT / "build" / "images"
UP = Boot(time_limit_seconds=300, console=("tiny: ready",), ssh=True, metadata=True)
START_SECONDS = 90
"""What a busy machine may take around the guest's own time: its disks, xl create, its end."""
SOON = Boot(time_limit_seconds=150, console=("tiny: ready",))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One Xen host for all of these; it stays until the last one is done."""
    run_doit("build:lab-dom0", "build:tiny")
    lab = Lab(tmp_path_factory.mktemp("lab"), IMAGES / "lab-dom0", " ".join(MODULES))
    with open_lab(lab, 1024, lambda _: None) as session:
        yield replace(session, is_own=False)


@pytest.fixture
def tiny(session: Session, tmp_path: Path) -> Image:
    return copy_image(IMAGES, "tiny", tmp_path / "image")


def check_failure(outcome: Outcome, cause: Cause, fact: str) -> None:
    assert outcome.failure
    assert (outcome.failure.cause, outcome.failure.next_step) == (cause.fact, cause.next_step), outcome.failure
    assert fact in outcome.failure.fact


def check_up(outcome: Outcome, guest_type: str) -> None:
    assert outcome.failure is None, outcome.failure
    assert outcome.facts["hypervisor"] == "xen"
    assert outcome.facts["guest_type"] == guest_type
    assert {met.name for met in outcome.met} >= {"ssh lets us in", "the meta-data is fetched"}


def test_a_pvh_guest_comes_up(session: Session, tiny: Image) -> None:
    tiny.change_config('type = "pv"', 'type = "pvh"')
    check_up(boot_image(session, tiny, UP), "PVH")


def test_pygrub_boots_an_image_by_its_own_files(session: Session, tmp_path: Path) -> None:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    text = (PROJECT / "recipes/images/tiny.yaml").read_text()
    text = text.replace("ramdisk:\n", "kernel: {in_image: true}\n\nramdisk:\n", 1)
    (recipes / "tiny.yaml").write_text(text.replace("domain:\n", "domain:\n  boot: pygrub\n", 1))
    cache = os.environ.get("XENKILN_CACHE") or str(PROJECT / "build" / "cache")
    places = {"XENKILN_BUILD": str(tmp_path / "build"), "XENKILN_RECIPES": str(recipes), "XENKILN_CACHE": cache}
    run_doit("build", env={**os.environ, **places})
    image = copy_image(tmp_path / "build" / "images", "tiny", tmp_path / "image")
    assert "pygrub" in image.config.read_text()
    check_up(boot_image(session, image, UP, pygrub=True), "PV")


def test_a_ramdisk_without_the_disks_driver(session: Session, tiny: Image) -> None:
    tiny.remove_module("xen-blkfront")
    check_failure(boot_image(session, tiny, SOON), diagnosis.NO_BLKFRONT, "its kernel panicked")


def test_a_root_that_is_not_there(session: Session, tiny: Image) -> None:
    tiny.change_config("/dev/xvda1 ro", "/dev/xvdz1 ro")
    outcome = boot_image(session, tiny, SOON)
    check_failure(outcome, diagnosis.NO_ROOT, "its kernel panicked")
    assert outcome.failure
    assert outcome.failure.phase == "guest init"
    assert "root=/dev/xvdz1 did not appear" in (tiny.folder / "console.log").read_text()


def test_an_init_that_is_not_there(session: Session, tiny: Image) -> None:
    tiny.change_config("console=hvc0", "console=hvc0 init=/sbin/nope")
    check_failure(boot_image(session, tiny, SOON), diagnosis.NO_INIT, "its kernel panicked")


def test_a_login_that_is_asked_for_on_another_console(session: Session, tiny: Image) -> None:
    tiny.write_file("/etc/inittab", "::sysinit:/etc/init.d/rcS\nttyS0::respawn:/sbin/getty 0 ttyS0\n")
    boot = SOON.model_copy(update={"time_limit_seconds": 75})
    check_failure(boot_image(session, tiny, boot), diagnosis.NO_LOGIN, "not all was met within 75 s")


def test_a_guest_that_powers_off_early(session: Session, tiny: Image) -> None:
    tiny.write_file("/etc/inittab", "::sysinit:/bin/busybox poweroff -f\n")
    check_failure(boot_image(session, tiny, SOON), diagnosis.ENDED, "its domain has ended")


def test_a_guest_that_reboots_for_ever(session: Session, tiny: Image) -> None:
    tiny.write_file("/etc/inittab", "::sysinit:/bin/busybox reboot -f\n")
    boot = SOON.model_copy(update={"time_limit_seconds": 200})
    check_failure(boot_image(session, tiny, boot), diagnosis.REBOOTS, "it reboots over and over")


def test_a_guest_that_floods_its_console(session: Session, tiny: Image) -> None:
    tiny.write_file("/etc/inittab", "hvc0::sysinit:/bin/busybox yes flood\n")
    outcome = boot_image(session, tiny, SOON.model_copy(update={"time_limit_seconds": 30}))
    assert outcome.failure
    *whole, last = outcome.failure.last_lines
    assert whole[-1] == "flood"
    assert "flood".startswith(last)  # the domain is ended in the middle of a line, or not
    assert (tiny.folder / "console.log").stat().st_size <= KEPT_BYTES


def test_a_guest_without_a_network(session: Session, tiny: Image) -> None:
    tiny.write_file("/etc/network/interfaces", "auto lo\niface lo inet loopback\n")
    boot = Boot(time_limit_seconds=60, console=("tiny: ready",), ssh=True)
    check_failure(boot_image(session, tiny, boot), diagnosis.NO_NETWORK, "not all was met")


def test_a_filesystem_of_fstab_that_is_not_there(session: Session, tmp_path: Path) -> None:
    run_doit("build:debian-12")
    image = copy_image(IMAGES, "debian-12", tmp_path / "image")
    image.write_file("/etc/fstab", "/dev/xvda1 / ext4 defaults 1 1\n"
                                   "/dev/xvdz1 /srv ext4 x-systemd.device-timeout=5s 0 2\n")  # fmt: skip
    outcome = boot_image(session, image, Boot(time_limit_seconds=400))
    check_failure(outcome, diagnosis.BAD_FSTAB, "its init gave up")
    assert outcome.failure
    assert outcome.failure.phase == "services"


def test_a_guest_that_crashes_once_it_is_up(session: Session, tiny: Image) -> None:
    crash = BootCommand(run="echo c > /proc/sysrq-trigger")
    boot = Boot(time_limit_seconds=60, ssh=True, commands=(crash,), metadata=True)
    started = time.monotonic()
    outcome = boot_image(session, tiny, boot)
    assert outcome.failure
    assert outcome.failure.fact == "its kernel panicked"
    assert "ssh lets us in" in {met.name for met in outcome.met}
    assert time.monotonic() - started < 60 + GRACE_SECONDS + START_SECONDS


def test_a_host_without_the_memory_is_no_verdict(session: Session, tiny: Image) -> None:
    memory = next(line for line in tiny.config.read_text().splitlines() if line.startswith("memory"))
    tiny.change_config(memory, "memory = 100000")
    with pytest.raises(NoRoomError, match="too little memory left for tiny"):
        boot_image(session, tiny, SOON)


def test_a_machine_that_stands_still_says_so(session: Session) -> None:
    assert host.find_stop(session.folder) == ""
    monitor.order(session.folder / machine.MONITOR, ("stop", {}))
    try:
        assert host.find_stop(session.folder) == "paused"
    finally:
        monitor.order(session.folder / machine.MONITOR, ("cont", {}))
    assert host.find_stop(session.folder) == ""


def test_a_kernel_that_xen_cannot_load(session: Session, tiny: Image) -> None:
    (tiny.folder / "vmlinuz").write_bytes(b"no kernel" * 1000)
    outcome = boot_image(session, tiny, SOON)
    check_failure(outcome, diagnosis.NO_KERNEL_LOADER, "xl cannot create it")
    assert outcome.failure
    assert outcome.failure.phase == "guest created"


def test_a_configuration_that_xl_refuses(session: Session, tiny: Image) -> None:
    tiny.change_config("vcpus = 1", "vcpus = 1\ntype = 'no such type'")
    outcome = boot_image(session, tiny, SOON)
    assert outcome.failure
    assert "xl refuses its configuration" in outcome.failure.fact
