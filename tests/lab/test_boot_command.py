"""`doit boot`, `lab` and `lab-stop` as the user meets them, on real Xen."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from doit_runs import run_doit
from junitparser import JUnitXml

from xenkiln.commands.boot import describe_lab
from xenkiln.errors import XenkilnError
from xenkiln.lab import host
from xenkiln.lab.machine import QEMU
from xenkiln.lab.xentop import make_samples, read_domains
from xenkiln.model.domain import Deploy
from xenkiln.system.layout import PROJECT
from xenkiln.system.ssh import Remote, answers, connect

pytestmark = [pytest.mark.root, pytest.mark.network, pytest.mark.lab]
IMAGES = PROJECT / "build" / "images"
NAMES = ("tiny", "debian-12")
WAIT_SECONDS = 120
LOAD_SECONDS = 20
MEGABYTES = 10


def find_qemus() -> list[str]:
    """Machines that run in the project's lab."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            folder = (process / "cwd").readlink()
            if QEMU.encode() in (process / "cmdline").read_bytes() and describe_lab().folder in folder.parents:
                found.append(process.name)
        except OSError:
            continue
    return found


def wait_until(is_so: Any) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def read_boot(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((IMAGES / name / "boot.json").read_text())
    return record


def test_two_images_come_up_on_one_host_and_nothing_of_it_stays() -> None:
    run_doit("build:tiny", "build:debian-12", "build:lab-dom0")
    before = {name: (IMAGES / name / "root.img").stat().st_mtime_ns for name in NAMES}
    output = run_doit("-n", "2", "boot:tiny", "boot:debian-12")
    assert find_qemus() == []
    for name in NAMES:
        record = read_boot(name)
        assert (record["result"], record["hypervisor"], record["guest_type"]) == ("passed", "xen", "PV")
        assert "cloud-amd64" in record["kernel"]
        assert record["addresses"][0].startswith("10.0.2.5")
        assert f"boot:{name}" in output
        suite = JUnitXml.fromfile(str(IMAGES / name / "boot.junit.xml"))
        assert (suite.failures, suite.errors) == (0, 0)
        assert "Linux version" in (IMAGES / name / "console.log").read_text(errors="replace")
        # The image took no part of it.
        assert (IMAGES / name / "root.img").stat().st_mtime_ns == before[name]
        subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=IMAGES / name, check=True)
    joined = [name for name in NAMES if not any(step["name"] == "qemu" for step in read_boot(name)["steps"])]
    assert len(joined) == 1
    assert "the meta-data is fetched" in {met["name"] for met in read_boot("tiny")["expectations"]}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_however_a_boot_is_ended_no_machine_stays(number: signal.Signals) -> None:
    run_doit("build:tiny", "build:lab-dom0")
    words = [sys.executable, "-m", "doit", "boot:tiny"]
    with subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        wait_until(find_qemus)
        time.sleep(3)
        run.send_signal(number)
        output, _ = run.communicate(timeout=WAIT_SECONDS)
    assert run.returncode != 0
    assert "Traceback" not in output
    wait_until(lambda: not find_qemus())
    assert not (IMAGES / "tiny" / "boot.json").exists()


def test_a_boot_whose_host_goes_with_another_run_starts_again() -> None:
    run_doit("build:tiny", "build:debian-12", "build:lab-dom0")
    words = [sys.executable, "-m", "doit"]
    log = IMAGES / "tiny" / "logs" / "boot.log"
    log.unlink(missing_ok=True)
    with subprocess.Popen([*words, "boot:debian-12"], cwd=PROJECT, stdout=subprocess.DEVNULL) as owner:
        wait_until(lambda: host.read_state(describe_lab().host))
        with subprocess.Popen([*words, "boot:tiny"], cwd=PROJECT, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True) as joined:  # fmt: skip
            wait_until(lambda: log.exists() and "create tiny" in log.read_text())
            owner.send_signal(signal.SIGINT)
            output, _ = joined.communicate(timeout=2 * WAIT_SECONDS)
    assert (owner.returncode != 0, joined.returncode) == (True, 0), output
    assert "once more, on another" in log.read_text()
    assert read_boot("tiny")["result"] == "passed"
    assert find_qemus() == []


@contextmanager
def open_lab() -> Iterator[str]:
    """What `doit lab` says while its host is up."""
    said = run_doit("lab")
    try:
        yield said
    finally:
        assert "has ended" in run_doit("lab-stop")
        assert find_qemus() == []


def check_listens_on_loopback_alone() -> None:
    inodes = set()
    for pid in find_qemus():
        inodes |= {Path(fd).readlink().name for fd in Path(f"/proc/{pid}/fd").iterdir() if Path(fd).is_symlink()}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if f"socket:[{words[9]}]" in inodes:
                assert words[1].split(":")[0] == "0100007F", line


def deploy_tiny(said: str, folder: Path) -> None:
    """Take tiny to the lab as to any Xen host, by the section that `doit lab` printed."""
    section = re.search(r"deploy: (\{.+?\})", said, re.DOTALL)
    assert section
    recipes = folder / "recipes"
    recipes.mkdir()
    text = (PROJECT / "recipes/images/tiny.yaml").read_text()
    (recipes / "tiny.yaml").write_text(f"{text}\ndeploy: {re.sub(chr(10) + ' *', ' ', section[1])}\n")
    cache = os.environ.get("XENKILN_CACHE") or str(PROJECT / "build" / "cache")
    places = {"XENKILN_RECIPES": str(recipes), "XENKILN_BUILD": str(folder / "build"), "XENKILN_CACHE": cache}
    output = run_doit("deploy:tiny", env={**os.environ, **places})
    assert "started" in output or "running" in output, output


LOADS = {
    "cpu_seconds": (["sh", "-c", f"timeout {LOAD_SECONDS} sh -c 'while :; do :; done'; true"], "", LOAD_SECONDS),
    "disk_written": (["sh", "-c", f"dd if=/dev/zero of=/load bs=1000000 count={MEGABYTES} conv=fsync 2>/dev/null"], "",
                     MEGABYTES * 1e6),
    "network_received": (["sh", "-c", "cat >/dev/null"], "x" * MEGABYTES * 1000000, MEGABYTES * 1e6),
}
"""Metric -> a load inside the guest, what is sent to it, and by how much the metric grows."""


def measure_load(dom0: Remote, guest: Remote, metric: str) -> float:
    """By how much a metric of tiny has grown while its load ran."""
    argv, sent, _ = LOADS[metric]
    before = read_domains(dom0)
    guest.run(argv, input_text=sent)
    samples = make_samples([before, read_domains(dom0)], "lab")
    found = next(sample for sample in samples if (sample.metric, sample.labels["domain"]) == (metric, "tiny"))
    return found.values[-1] - found.values[0]


def test_the_lab_is_a_xen_host_for_work_by_hand(tmp_path: Path) -> None:
    with open_lab() as said:
        check_listens_on_loopback_alone()
        state = host.read_state(describe_lab().host)
        assert state
        assert "boot:tiny" in run_doit("boot:tiny")
        assert not any(step["name"] == "qemu" for step in read_boot("tiny")["steps"])
        deploy_tiny(said, tmp_path)
        guest = find_guest(said)
        with (
            host.open_dom0(describe_lab().host, state, lambda _: None) as dom0,
            connect(guest, lambda _: None, trust_any=True) as inside,
        ):
            grown = {metric: measure_load(dom0, inside, metric) for metric in LOADS}
    for metric, (_, _, wanted) in LOADS.items():
        # What the guest does besides counts too: a busy machine's ticks, the headers of packets.
        assert grown[metric] == pytest.approx(wanted, rel=0.2 if metric == "cpu_seconds" else 0.1), grown


def find_guest(said: str) -> Deploy:
    """The one guest, at whichever of its addresses, once it has fetched the lab's key."""
    ports = re.search(r"127\.0\.0\.1 ports ([\d, ]+), in", said)
    assert ports
    key = str(describe_lab().host / host.KEY)
    guests = [Deploy(host="127.0.0.1", port=int(port), key_file=key) for port in ports[1].split(", ")]
    wait_until(lambda: any(map(can_log_in, guests)))
    return next(guest for guest in guests if can_log_in(guest))


def can_log_in(guest: Deploy) -> bool:
    try:
        if not answers(guest, 1):
            return False
        with connect(guest, lambda _: None, trust_any=True):
            return True
    except XenkilnError:
        return False  # its key has not come yet
