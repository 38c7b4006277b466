"""What a Xen host of the lab takes of this machine's memory."""

from __future__ import annotations

import pytest

from xenkiln.lab import host
from xenkiln.lab.machine import DOM0_MIB, XEN_MIB
from xenkiln.lab.session import QEMU_MIB, find_memory_problem

HOST_MIB = DOM0_MIB + XEN_MIB


@pytest.mark.parametrize("guest_mib", [0, 96, 4096])
def test_too_little_memory_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch, guest_mib: int) -> None:
    needed = HOST_MIB + QEMU_MIB + guest_mib
    monkeypatch.setattr(host, "available_mib", lambda: needed)
    assert find_memory_problem(guest_mib) is None
    monkeypatch.setattr(host, "available_mib", lambda: needed - 1)
    assert str(find_memory_problem(guest_mib)) == (
        f"this host: {needed - 1} MiB of memory are available, a Xen host with a guest of {guest_mib} MiB takes"
        f" {needed}\n  next: end other programs, or lower domain.memory_mib"
    )
