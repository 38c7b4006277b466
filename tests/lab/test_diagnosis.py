"""From the last words of guests that did not come up to the likely cause."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from last_words import CASES, DEBIAN, NO_DRIVERS, TINY

from xenkiln.lab import diagnosis
from xenkiln.lab.console import Console
from xenkiln.lab.diagnosis import Cause, diagnose


@pytest.mark.parametrize(("cause", "text"), CASES.values(), ids=CASES)
def test_the_cause_is_named_whatever_was_expected(cause: Cause, text: str) -> None:
    for missing in ([], ["login"], ["ssh", "command"]):
        assert diagnose(text, missing=missing, seen_on_network=bool(missing)) == cause


@pytest.mark.parametrize(("cause", "text"), CASES.values(), ids=CASES)
def test_colours_and_carriage_returns_hide_no_cause(cause: Cause, text: str, tmp_path: Path) -> None:
    console = Console(tmp_path / "console.log")
    for words, colour in (("FAILED", 31), ("DEPEND", 33), ("/srv", 39), ("Failed to mount", 39)):
        text = text.replace(words, f"\x1b[0;1;{colour}m{words}\x1b[0m")
    console.feed(text.replace("\n", "\r\n").encode())
    assert diagnose(console.text, missing=[], seen_on_network=False) == cause


@pytest.mark.parametrize("text", [TINY, DEBIAN], ids=["tiny", "debian"])
def test_a_good_start_is_never_taken_for_a_broken_one(text: str) -> None:
    lines = text.splitlines(keepends=True)
    for count in range(1, len(lines) + 1):
        so_far = "".join(lines[:count])
        assert diagnose(so_far, missing=["console"], seen_on_network=True) == diagnosis.TOO_SLOW, so_far


def test_devices_without_driver_are_usual_before_the_ramdisk_has_loaded_it() -> None:
    mount = "[ TIME ] Timed out waiting for device dev-xvdz1.device - /dev/xvdz1.\n"
    assert NO_DRIVERS in DEBIAN
    assert diagnose(DEBIAN, missing=["ssh"], seen_on_network=True) == diagnosis.NO_SSH
    assert diagnose(DEBIAN + mount, missing=["command"], seen_on_network=True) == diagnosis.BAD_FSTAB


@pytest.mark.parametrize("console", ["", "\n", " \r\n\n"])
@pytest.mark.parametrize("missing", [["login"], ["console", "login", "ssh"], []])
def test_nothing_at_all_on_the_console_is_silence(console: str, missing: list[str]) -> None:
    assert diagnose(console, missing=missing, seen_on_network=True) == diagnosis.SILENCE


@pytest.mark.parametrize(
    ("missing", "seen", "cause"),
    [
        (["login"], True, diagnosis.NO_LOGIN),
        (["login"], False, diagnosis.NO_LOGIN),
        (["login", "ssh"], False, diagnosis.NO_NETWORK),
        (["ssh"], False, diagnosis.NO_NETWORK),
        (["ssh", "command", "metadata"], True, diagnosis.NO_SSH),
        (["command"], True, diagnosis.COMMAND_FAILED),
        (["command", "metadata"], False, diagnosis.COMMAND_FAILED),
        (["metadata"], False, diagnosis.NO_META_DATA),
        (["console", "login"], True, diagnosis.TOO_SLOW),
    ],
)
def test_a_guest_that_is_up_is_judged_by_what_it_lacks(missing: list[str], seen: bool, cause: Cause) -> None:
    assert diagnose(TINY, missing=missing, seen_on_network=seen) == cause


@pytest.mark.parametrize(
    "said",
    [
        "xl refuses its configuration: /etc/xen/tiny:7: config parsing error near `vif': syntax error\n",
        "xl cannot create it: failed to free memory for the domain\n",
        "the root filesystem cannot be mounted\n",
        "disk 38 has not come\n",
    ],
)
def test_a_guest_that_was_never_created_is_not_called_slow(said: str) -> None:
    found = diagnose(said, missing=[], seen_on_network=False, ending="refused")
    assert found in (diagnosis.REFUSED, diagnosis.NO_HOST_MEMORY)


def test_a_host_without_memory_is_not_mended_by_more_memory_for_the_guest() -> None:
    said = "xc_dom_boot_mem_init: can't allocate low memory for domain: Out of memory\n"
    assert diagnose(said, missing=[], seen_on_network=False) != diagnosis.NO_MEMORY


@pytest.mark.parametrize("ending", ["Power down", "System halted", "Restarting system"])
def test_a_guest_that_ends_by_itself_is_not_called_slow(ending: str) -> None:
    console = f"{TINY}tiny: going down\n[   40.118001] reboot: {ending}\n"
    assert diagnose(console, missing=["console"], seen_on_network=True, ending="gone") == diagnosis.ENDED


@pytest.mark.parametrize(("ending", "cause"), diagnosis.BY_ENDING.items())
def test_how_it_ended_is_the_cause_where_no_text_says_more(ending: diagnosis.Ending, cause: Cause) -> None:
    for console in ("", TINY):
        assert diagnose(console, missing=["ssh"], seen_on_network=False, ending=ending) == cause
    said = "Kernel panic - not syncing: No working init found."
    told = diagnose(said, missing=[], seen_on_network=False, ending=ending)
    assert told == diagnosis.NO_INIT


def test_every_cause_is_reached_by_some_text_here() -> None:
    known = {cause for cause in vars(diagnosis).values() if isinstance(cause, Cause)}
    waiting = {diagnosis.SILENCE, diagnosis.NO_LOGIN, diagnosis.NO_NETWORK, diagnosis.NO_SSH, diagnosis.TOO_SLOW}
    waiting |= {diagnosis.COMMAND_FAILED, diagnosis.NO_META_DATA}
    waiting |= {*diagnosis.BY_ENDING.values()} - {diagnosis.PANIC}
    assert {cause for cause, _ in CASES.values()} == known - waiting


@given(st.text(max_size=300), st.lists(st.sampled_from(["console", "login", "ssh", "command", "metadata"])))
def test_any_text_gets_a_cause_with_a_way_out(text: str, missing: list[str]) -> None:
    cause = diagnose(text, missing=missing, seen_on_network=False)
    assert cause.fact
    assert cause.next_step
