"""A guest's console: what is kept of it, what it is read as, and what the guest is at."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenkiln.lab import console as module
from xenkiln.lab.console import LOGIN, SERVICES, Console

START = "[    0.000000] Linux version 6.1.0-38-amd64 (debian-kernel@lists.debian.org)\r\n"
KERNEL = START + "[    3.083230] Booting kernel on Xen\r\n[    8.9] xenbus_probe_frontend: no driver: vbd\r\n"
SRCU = "[    3.223218] rcu: srcu_init: Setting srcu_struct sizes based on contention.\r\n"
RUN_INIT = "[    9.456548] Run /init as init process\r\n"


@pytest.fixture
def console(tmp_path: Path) -> Console:
    return Console(tmp_path / "console.log")


def hear(folder: Path, text: str) -> Console:
    console = Console(folder / "console.log")
    console.feed(text.encode())
    return console


def test_the_file_has_every_byte_and_the_text_is_plain(console: Console) -> None:
    said = b"\x1b[?25l\x1b[2J[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mssh\x1b[0m.\r\n"
    said += b"\x1b(B\x1b=debian12 login: \x1bc\xff"
    console.feed(said)
    assert console.path.read_bytes() == said
    assert console.text == "[  OK  ] Started ssh.\ndebian12 login: \ufffd"
    assert console.size == len(said)


def test_an_older_console_of_the_same_name_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "console.log").write_text("Kernel panic of yesterday")
    console = hear(tmp_path, "today")
    assert (console.text, console.path.read_text()) == ("today", "today")


@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(0, 200))
def test_no_more_than_the_limit_is_kept_and_everything_is_counted(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], limit: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "KEPT_BYTES", limit)
        console = Console(tmp_path_factory.mktemp("console") / "console.log")
        for part in parts:
            console.feed(part)
        assert console.path.read_bytes() == b"".join(parts)[:limit]
        assert console.size == len(b"".join(parts))


@given(st.lists(st.text("ab\r\n[: \x1b", max_size=20), max_size=12))
def test_it_does_not_matter_in_how_many_parts_plain_text_comes(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    console, whole = (Console(tmp_path_factory.mktemp("console") / "console.log") for _ in range(2))
    for part in parts:
        console.feed(part.encode())
    whole.feed("".join(parts).encode())
    assert (console.text, console.find_phase()) == (whole.text, whole.find_phase())


def test_a_letter_of_several_bytes_may_come_in_two_parts(console: Console) -> None:
    said = "● Wanted: größer".encode()
    for place in range(len(said)):
        console.feed(said[place : place + 1])
    assert console.text == "● Wanted: größer"


def test_a_flood_is_one_when_more_comes_than_any_guest_has_to_say(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 1000)
    monkeypatch.setattr(module, "FLOOD_BYTES", 5000)
    console.feed(b"y\r\n" * 1666)
    assert (console.size, console.is_flooded) == (4998, False)
    console.feed(b"y\r\n")
    assert console.is_flooded
    assert (console.path.stat().st_size, len(console.text.replace("\n", "\r\n"))) == (1000, 1000)


def test_each_start_of_a_kernel_is_counted(tmp_path: Path) -> None:
    assert hear(tmp_path, "pygrub: Starting...\r\n").starts == 0
    assert hear(tmp_path, KERNEL).starts == 1
    assert hear(tmp_path, KERNEL * 4).starts == 4


@pytest.mark.parametrize(
    "prompt",
    [
        "tiny login: ",
        "\r\nxenkiln tiny, tiny on /dev/hvc0\r\n\r\ntiny login: ",
        "\r\nDebian GNU/Linux 12 debian12 hvc0\r\n\r\ndebian12 login: ",
        "\x1b[H\x1b[Jdebian12 login: \x1b[?25h",
        "CentOS release 5.2 (Final)\r\nKernel 2.6.18-92.el5xen on an i686\r\n\r\ncentos52 login:",
        "tiny login: \r\n",
        "debian12 login: \r\n\r\nDebian GNU/Linux 12 debian12 hvc0\r\n",
    ],
)
def test_a_login_prompt_is_seen(tmp_path: Path, prompt: str) -> None:
    assert LOGIN.search(hear(tmp_path, KERNEL + RUN_INIT + prompt).text)


def test_a_prompt_is_seen_though_a_service_writes_on_behind_it(tmp_path: Path) -> None:
    assert LOGIN.search(hear(tmp_path, "\r\ntiny login: meta-data: fetched 18 values and 1 ssh keys\r\n").text)


@pytest.mark.parametrize(
    "said",
    ["", "Last login: Tue Jun 10 10:00:00 2025\r\n", "systemd[1]: Started systemd-logind.service - User Login.\r\n",
     "sshd[1]: pam_unix(login:session): opened\r\n"],
)  # fmt: skip
def test_what_is_no_login_prompt_is_not_taken_for_one(tmp_path: Path, said: str) -> None:
    assert not LOGIN.search(hear(tmp_path, said).text)


PHASES = {
    "nothing": ("", "guest kernel"),
    "a kernel": (KERNEL, "guest kernel"),
    "our ramdisk": (KERNEL + RUN_INIT, "guest init"),
    "a kernel that names functions, and our ramdisk": (KERNEL + SRCU + RUN_INIT, "guest init"),
    "our ramdisk in trouble": (KERNEL + "ramdisk: root=/dev/xvda1 did not appear within 10 s\r\n", "guest init"),
    "our init": (KERNEL + RUN_INIT + "tiny: network up: eth0 10.0.2.50/28\r\n", SERVICES),
    "initramfs-tools": (KERNEL + RUN_INIT + "Loading, please wait...\r\n", "guest init"),
    "systemd": (KERNEL + RUN_INIT + "systemd[1]: Hostname set to <debian12>.\r\n", SERVICES),
    "systemd in colours": (
        KERNEL + RUN_INIT + "\r\nWelcome to \x1b[1mDebian GNU/Linux 12 (bookworm)\x1b[0m!\r\n", SERVICES),
    "sysvinit": (KERNEL + "Freeing unused kernel memory: 192k freed\r\nINIT: version 2.86 booting\r\n", SERVICES),
    "upstart": (KERNEL + RUN_INIT + "init: plymouth main process (42) killed by SEGV signal\r\n", SERVICES),
    "a prompt alone": (KERNEL + RUN_INIT + "debian12 login: ", SERVICES),
    "a kernel that is asked to be quiet, and our init": ("tiny: ready: tiny, 5 s\r\n\r\ntiny login: ", SERVICES),
    "a kernel that is asked to be quiet, and systemd": (
        "\r\nDebian GNU/Linux 12 debian12 hvc0\r\n\r\ndebian12 login: ", SERVICES),
}  # fmt: skip


@pytest.mark.parametrize(("said", "phase"), PHASES.values(), ids=PHASES)
def test_the_phase_is_told_by_what_the_guest_says(tmp_path: Path, said: str, phase: str) -> None:
    assert hear(tmp_path, said).find_phase() == phase


def test_phases_come_in_order_while_a_guest_starts(console: Console) -> None:
    seen = []
    for line in (KERNEL + RUN_INIT + "tiny: network up\r\n\r\ntiny login: ").splitlines(keepends=True):
        console.feed(line.encode())
        seen.append(console.find_phase())
    assert list(dict.fromkeys(seen)) == ["guest kernel", "guest init", SERVICES]


def test_the_last_lines_are_printable_and_say_something(tmp_path: Path) -> None:
    said = "".join(f"line {number}\r\n\r\n" for number in range(30)) + "\x1b[31mred\x1b[0m\x07\x00 end\r\n \t\r\n"
    lines = hear(tmp_path, said).list_last_lines()
    assert lines == [*(f"line {number}" for number in range(19, 30)), "red end"]


def test_the_last_lines_of_a_silent_guest_are_none(console: Console) -> None:
    assert console.list_last_lines() == []
