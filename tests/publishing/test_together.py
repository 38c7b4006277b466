"""Publishing beside other runs, with a limit, over what others have left, and interrupted."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

import pytest

from publishing import meddling
from publishing.conftest import Meet
from publishing.meddling import Asked, is_first_part, is_manifest, is_part
from publishing.trying import attempt, check_whole
from xenkiln.actions import guard, run_command
from xenkiln.bundle import parts
from xenkiln.clouds import bandwidth
from xenkiln.lab.cloud.faults import Fault
from xenkiln.lab.cloud.request import Answer
from xenkiln.system.files import write_finished


def test_other_content_under_a_parts_name_is_replaced(meet: Meet) -> None:
    site, meddler = meet()
    meddler.meddle(is_manifest, meddling.refuse("Denied", 403))
    attempt(site)
    store = site.target.store
    there = store.list_objects("images", "vmlinuz")
    first, second, *others = sorted(there)
    store.put("images", first, bytes(there[first].size))
    store.put("images", second, b"short")
    meddler.stop()
    assert attempt(site) == ""
    assert sorted(meddler.list_parts()) == [first, second]
    assert {key: each.md5 for key, each in store.list_objects("images", "vmlinuz").items() if ".part." in key} == {
        key: each.md5 for key, each in there.items()}  # fmt: skip
    assert others
    check_whole(site, meddler)


def test_two_runs_at_the_same_time_do_everything_once(meet: Meet, capsys: pytest.CaptureFixture[str]) -> None:
    site, meddler = meet()
    dam = meddling.Dam()
    meddler.meddle(is_part, dam.hold)
    with ThreadPoolExecutor(2, "run") as pool:
        first = pool.submit(site.publish)
        assert dam.reached.wait(meddling.PATIENCE_SECONDS)
        second = pool.submit(site.publish)
        dam.opened.set()
        assert first.result() == second.result()
    sent = meddler.list_parts()
    assert len(sent) == len(set(sent)) > 1
    assert meddler.count("RegisterImage") == 1
    assert capsys.readouterr().out.count("up to date") == 1


def test_the_bandwidth_is_that_of_all_threads_together(meet: Meet, monkeypatch: pytest.MonkeyPatch) -> None:
    site, meddler = meet("4.4", "bandwidth_mib: 1\nparallel: 8\n")
    clock = FrozenClock()
    monkeypatch.setattr(bandwidth, "time", clock)
    assert attempt(site) == ""
    sent = [len(each.data) for each in meddler.asked if each.method == "PUT" and each.data]
    assert len(sent) > 4
    # Nothing passes while the clock stands: the last byte has to wait for as long as all of them take.
    assert max(clock.waits) == pytest.approx(sum(sent) / (1 << 20))


class FrozenClock:
    def __init__(self) -> None:
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return 100.0

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


def test_an_interrupt_ends_sending_soon(meet: Meet, monkeypatch: pytest.MonkeyPatch) -> None:
    site, meddler = meet()
    monkeypatch.setattr(parts, "PART_BYTES", 24 << 20)
    site.change("vmlinuz", random.randbytes(24 << 20))
    ends: Queue[str] = Queue()

    def interrupt(asked: Asked) -> Answer:
        pieces = iter(asked.request.body)
        next(pieces)
        os.kill(os.getpid(), signal.SIGINT)
        try:
            for _ in pieces:
                time.sleep(0.005)
        except Fault as fault:
            ends.put(fault.code)
            raise ConnectionResetError from fault
        ends.put("whole")
        raise ConnectionResetError

    meddler.meddle(is_first_part, interrupt)
    with pytest.raises(KeyboardInterrupt):
        site.publish()
    assert ends.get(timeout=meddling.PATIENCE_SECONDS) == "IncompleteBody"
    check_whole(site, meddler)


def fill_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_no_half_bundle(meet: Meet, monkeypatch: pytest.MonkeyPatch) -> None:
    site, _ = meet()
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fill_disk)
        told = guard(run_command, "bundle", site.subject, site.cloud, "kernel")
    assert told is not None
    assert "No space left on device" in told.get_msg()
    assert "free some space and run this again" in told.get_msg()
    folder = site.images.parents[1] / "bundles" / "tiny"
    assert [path.name for path in folder.iterdir()] == ["kernel.lock"]
    assert guard(run_command, "bundle", site.subject, site.cloud, "kernel") is None


@pytest.mark.parametrize("kind", ["uploaded", "registered"])
def test_a_disk_that_is_full_for_a_record_costs_nothing(
    kind: str, meet: Meet, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, meddler = meet()
    def write_most(path: Path, content: str) -> None:
        if path.stem == kind and '"result": "begun"' not in content:
            fill_disk()
        write_finished(path, content)

    with monkeypatch.context() as full:
        full.setattr("xenkiln.publishing.records.write_finished", write_most)
        told = guard(run_command, "publish", site.subject, site.cloud)
    assert told is not None
    assert "No space left on device" in told.get_msg()
    sent = meddler.list_parts()
    site.publish()
    assert meddler.list_parts() == sent
    assert meddler.count("RegisterImage") == 1
    check_whole(site, meddler)
