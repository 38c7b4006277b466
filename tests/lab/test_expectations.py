"""What is waited for: from a recipe's section to a list, and what each of it still lacks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from xenkiln.errors import CommandError, HostError
from xenkiln.lab import expectations
from xenkiln.lab.console import Console
from xenkiln.lab.expectations import (
    Expectation,
    View,
    describe_error,
    find_lack_of_kind,
    find_lack_of_xen,
    find_lack_on_console,
    find_lack_over_ssh,
    list_expectations,
    read_facts,
)
from xenkiln.lab.meta_data import make_meta_data
from xenkiln.model.boot import Boot
from xenkiln.system.ssh import Answer, Remote

KEY = "ssh-ed25519 AAAA boot"


class HereRemote:
    """A guest whose commands are run here."""

    def run(
        self, argv: Sequence[str], *, input_text: str = "", accept: Sequence[int] = (0,), limit_seconds: float = 9
    ) -> Answer:
        done = subprocess.run(argv, input=input_text, capture_output=True, text=True, check=False)
        if done.returncode not in accept:
            raise CommandError(" ".join(argv), f"exit code {done.returncode}", last_lines=done.stderr.splitlines())
        return Answer(done.returncode, done.stdout, done.stderr)


class ToldRemote:
    """A guest that answers one thing to everything."""

    def __init__(self, out: str) -> None:
        self.out = out

    def run(self, argv: Sequence[str], **_: object) -> Answer:
        return Answer(0, self.out, "")


HERE = cast(Remote, HereRemote())


@pytest.fixture
def view(tmp_path: Path) -> View:
    return View(Console(tmp_path / "console.log"), None, {}, "PV")


def make_boot(**settings: Any) -> Boot:
    return Boot.model_validate_json(json.dumps(settings))


@pytest.mark.parametrize(
    ("settings", "kinds"),
    [
        ({}, ["paravirtualised", "login"]),
        ({"login": False, "ssh": True}, ["paravirtualised", "ssh"]),
        ({"console": ["one", "two"]}, ["paravirtualised", "console", "console", "login"]),
        ({"commands": [{"run": "true"}]}, ["paravirtualised", "login", "ssh", "command"]),
        ({"login": False, "metadata": True}, ["paravirtualised", "ssh", "metadata"]),
        ({"console": ["x"], "ssh": True, "metadata": True, "commands": [{"run": "id", "output": "uid=0"}]},
         ["paravirtualised", "console", "login", "ssh", "command", "metadata"]),
    ],
)  # fmt: skip
def test_a_section_becomes_a_list_in_the_order_of_a_boot(settings: dict[str, Any], kinds: list[str]) -> None:
    assert [each.kind for each in list_expectations(make_boot(**settings), "PV")] == kinds


def test_each_expectation_has_a_name_of_its_own() -> None:
    boot = make_boot(console=["tiny: ready"], metadata=True, commands=[{"run": "id"}, {"run": "id", "output": "0"}])
    assert [each.name for each in list_expectations(boot, "PVH")] == [
        "it is a PVH guest of Xen",
        "console says 'tiny: ready'",
        "a login prompt on the console",
        "ssh lets us in",
        "`id` succeeds",
        "`id` succeeds and prints '0'",
        "the meta-data is fetched",
    ]


def test_a_text_and_a_prompt_are_looked_for_on_the_console(view: View) -> None:
    text, login = Expectation("console", "", "tiny: ready"), Expectation("login", "")
    assert find_lack_on_console(text, view) == "the text has not come"
    view.console.feed(b"tiny: \x1b[1mready\x1b[0m\r\n")
    assert find_lack_on_console(text, view) == ""
    assert find_lack_on_console(login, view) == "no login prompt has come"
    view.console.feed(b"\r\ntiny login: ")
    assert find_lack_on_console(login, view) == ""


@pytest.mark.parametrize(
    ("run", "output", "lack"),
    [
        ("true", "", ""),
        ("echo 'ID=tiny'; echo more", "ID=tiny", ""),
        ("echo other", "tiny", "it prints 'other'"),
        ("echo no >&2; exit 3", "", "exit code 3: no"),
        ("echo only here; exit 1", "", "exit code 1: only here"),
        ("no-such-program", "", "exit code 127: "),
        ("echo \"it's\" '$HOME' | cat", "it's $HOME", ""),
    ],
)
def test_a_command_must_succeed_and_print_what_is_expected(view: View, run: str, output: str, lack: str) -> None:
    said = find_lack_over_ssh(Expectation("command", "", output, run), view, HERE, {})
    assert said == lack if not lack.endswith(": ") else said.startswith(lack)


def test_a_login_is_enough_for_ssh(view: View) -> None:
    assert find_lack_over_ssh(Expectation("ssh", "ssh lets us in"), view, HERE, {}) == ""


USER_DATAS = ["", "#!/bin/sh\necho hello\n", "no end of line", "größer\n", "two\n\nparts\n", "one\n--\ntwo\n"]


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(expectations, "META_DATA_FOLDER", str(tmp_path / "run"))
    return tmp_path / "run"


def fetch(folder: Path, told: dict[str, str]) -> None:
    for path, body in told.items():
        if not path.endswith("/index"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(body)


def look_for(told: dict[str, str], view: View) -> str:
    return find_lack_over_ssh(Expectation("metadata", ""), View(view.console, None, told, "PV"), HERE, {})


@pytest.mark.parametrize("user_data", USER_DATAS)
def test_meta_data_that_was_fetched_lacks_nothing(view: View, fetched: Path, user_data: str) -> None:
    told = make_meta_data("tiny", "10.0.2.50", KEY, user_data)
    fetch(fetched, told)
    assert look_for(told, view) == ""


def test_each_value_that_was_not_fetched_or_is_another_is_named(view: View, fetched: Path) -> None:
    told = make_meta_data("tiny", "10.0.2.50", KEY, "#!/bin/sh\n")
    assert look_for(told, view) == f"there is no {fetched}: configure.fetch_metadata brings the client"
    fetch(fetched, told)
    (fetched / "meta-data/placement/availability-zone").unlink()
    (fetched / "meta-data/hostname").write_text("other")
    (fetched / "user-data").write_text("")
    assert look_for(told, view) == (
        "not fetched: meta-data/hostname, meta-data/placement/availability-zone, user-data"
    )  # fmt: skip


def test_facts_are_read_from_what_a_guest_says_of_itself(view: View) -> None:
    said = "hypervisor xen\nguest_type PV\nkernel 6.1.0-38-amd64\nmemory_kib 62144\naddresses 10.0.2.50/28 fd00::2/64\n"
    facts: dict[str, str] = {"kept": "yes"}
    remote = cast(Remote, ToldRemote(said))
    assert find_lack_over_ssh(Expectation("paravirtualised", ""), view, remote, facts) == ""
    assert facts == {"kept": "yes", "hypervisor": "xen", "guest_type": "PV", "kernel": "6.1.0-38-amd64",
                     "memory_kib": "62144", "addresses": "10.0.2.50/28 fd00::2/64"}  # fmt: skip


def test_the_questions_are_ones_that_a_shell_understands() -> None:
    facts = read_facts(HERE, 10)
    assert facts["kernel"] == subprocess.run(["uname", "-r"], capture_output=True, text=True, check=True).stdout.strip()
    assert int(facts["memory_kib"]) > 0
    assert all(name in dict(expectations.FACTS) and "\n" not in value for name, value in facts.items())


@pytest.mark.parametrize(
    ("facts", "guest_type", "lack"),
    [
        ({"hypervisor": "xen", "guest_type": "PV"}, "PV", ""),
        ({"hypervisor": "xen", "guest_type": "PVH"}, "PVH", ""),
        ({"hypervisor": "xen"}, "PV", ""),
        ({"hypervisor": "xen", "guest_type": "HVM"}, "PV", "/sys/hypervisor/guest_type says HVM"),
        ({"hypervisor": "xen", "guest_type": "PV"}, "PVH", "/sys/hypervisor/guest_type says PV"),
        ({"hypervisor": "kvm"}, "PV", "/sys/hypervisor/type says kvm"),
        ({}, "PV", "/sys/hypervisor/type says nothing"),
    ],
)
def test_sysfs_shows_whether_it_is_a_guest_of_xen(facts: dict[str, str], guest_type: str, lack: str) -> None:
    assert find_lack_of_xen(facts, guest_type) == lack


@pytest.mark.parametrize(("kind", "wanted", "lack"), [("pv", "PV", ""), ("pvh", "PVH", ""),
                                                      ("pvh", "PV", "xl list says pvh"),
                                                      ("", "PV", "xl list says nothing of it")])  # fmt: skip
def test_xen_says_what_a_guest_is_that_nobody_logs_in_to(kind: str, wanted: str, lack: str) -> None:
    assert find_lack_of_kind(kind, wanted) == lack


def test_an_error_is_described_in_one_line() -> None:
    error = HostError("no ssh server has answered yet", place="127.0.0.1", next_step="wait")
    assert describe_error(error) == "127.0.0.1: no ssh server has answered yet"
    assert describe_error(CommandError("sh -c 'x'", "exit code 1", last_lines=["why"])).startswith("exit code 1: sh -c")
