"""What a Xen host of the lab takes of this machine's memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenkiln.lab import host
from xenkiln.lab.machine import HOST_MIB
from xenkiln.lab.session import QEMU_MIB, USUAL_GUESTS_MIB, choose_memory, find_memory_problem


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


@pytest.mark.parametrize(
    ("available_mib", "guest_mib", "machine_mib"),
    [
        (65536, 96, HOST_MIB + USUAL_GUESTS_MIB),
        (2048, 96, 1536),
        (512, 96, HOST_MIB + 96),
        (65536, 4096, HOST_MIB + 4096),
        (65536, 0, HOST_MIB + USUAL_GUESTS_MIB),
    ],
)
def test_the_machine_has_room_for_other_guests_where_there_is_some(
    monkeypatch: pytest.MonkeyPatch, available_mib: int, guest_mib: int, machine_mib: int
) -> None:
    monkeypatch.setattr(host, "available_mib", lambda: available_mib)
    assert choose_memory(guest_mib) == machine_mib


@given(st.integers(0, 1 << 20), st.integers(0, 1 << 20))
def test_the_machine_always_holds_the_guest_and_grows_with_what_there_is(available_mib: int, guest_mib: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "available_mib", lambda: available_mib)
        chosen = choose_memory(guest_mib)
        assert chosen >= HOST_MIB + guest_mib
        assert chosen <= max(HOST_MIB + guest_mib, HOST_MIB + USUAL_GUESTS_MIB)
        patch.setattr(host, "available_mib", lambda: available_mib + 1024)
        assert choose_memory(guest_mib) >= chosen


def test_this_host_has_some_memory_to_give() -> None:
    assert 0 < host.available_mib() < 1 << 30
