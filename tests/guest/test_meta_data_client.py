"""The meta-data client as people use it: one key, the whole tree, the user-data; and session tokens (IMDSv2)."""

from __future__ import annotations

import os
import string
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guest.cloud import ERROR_PAGE, KEY, VALUES, Cloud, run_cloud
from guest.guests import SCRIPT, Guest, list_kinds, make_guest

CANNOT_PUT = "wget stand-in"
REAL = [kind for kind in list_kinds() if " " not in kind]


@pytest.fixture(params=[kind for kind in list_kinds() if kind != CANNOT_PUT])
def modern_guest(request: pytest.FixtureRequest, tmp_path: Path) -> Guest:
    return make_guest(tmp_path / "guest", request.param)


@pytest.fixture(params=REAL)
def real_guest(request: pytest.FixtureRequest, tmp_path: Path) -> Guest:
    return make_guest(tmp_path / "guest", request.param)


def assert_nothing_is_left(guest: Guest) -> None:
    assert {path.name for path in guest.folder.iterdir()} == {"bin", "tmp"}
    assert list((guest.folder / "tmp").iterdir()) == []


def test_every_command_prints_what_a_cloud_with_tokens_says(modern_guest: Guest, cloud: Cloud) -> None:
    cloud.tokens = "required"
    shown = ask_everything(modern_guest, cloud)
    assert len(cloud.given) == 3, "one token for each command"
    assert not any(token.encode() in shown for token in cloud.given)


@pytest.mark.parametrize("tokens", ["unknown", "possible"])
def test_every_command_prints_what_a_cloud_without_says(quick_guest: Guest, cloud: Cloud, tokens: str) -> None:
    cloud.tokens = tokens  # type: ignore[assignment]
    ask_everything(quick_guest, cloud)
    assert not any("PUT" in request for request in cloud.requests), "nobody waits for what need not be"


def ask_everything(guest: Guest, cloud: Cloud) -> bytes:
    """Check what each command prints, and return all of it."""
    data = bytes(range(256)) * 64
    cloud.say("user-data", data)
    result = guest.ask(cloud.address, "get", "placement/availability-zone")
    assert (result.stdout, result.stderr, result.returncode) == ("cluster1\n", "", 0)
    tree = guest.ask(cloud.address, "tree")
    lines = {f"{name} = {value}" for name, value in VALUES.items()} | {f"public-keys/0/openssh-key = {KEY}"}
    assert (sorted(tree.stdout.splitlines()), tree.stderr, tree.returncode) == (sorted(lines), "", 0)
    user_data = guest.ask_bytes(cloud.address, "user-data")
    assert (user_data.stdout, user_data.stderr, user_data.returncode) == (data, b"", 0)
    assert_nothing_is_left(guest)
    return f"{result.stdout}{tree.stdout}".encode() + user_data.stdout


def test_booting_with_a_token_looks_like_booting_without(real_guest: Guest, cloud: Cloud) -> None:
    cloud.tokens = "required"
    cloud.say("user-data", f"#!/bin/sh\necho ran >{real_guest.folder}/ran\n")
    result = real_guest.ask(cloud.address)
    assert result.stdout == (
        f"meta-data: fetched 18 values and 1 ssh keys of instance i-2ECA052C from {cloud.address}\n"
        "meta-data: running the user-data script\n"
    )
    assert (result.stderr, result.returncode) == ("", 0)
    assert real_guest.keys.read_text() == f"{KEY}\n"
    assert (real_guest.folder / "ran").exists()
    assert len(cloud.given) == 1
    files = [path for path in real_guest.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not any(cloud.given[0].encode() in path.read_bytes() for path in files)


def test_half_an_answer_is_none(tmp_path: Path, cloud: Cloud) -> None:
    """By curl, and by hand through busybox's nc: half a script must not run."""
    cloud.cut = {"user-data"}
    cloud.say("user-data", "#!/bin/sh\nrm -rf /tmp/something")
    for kind in [kind for kind in REAL if kind != "wget"]:
        cloud.tokens = "required" if kind == "busybox" else "unknown"
        guest = make_guest(tmp_path / kind, kind)
        result = guest.ask(cloud.address, "user-data")
        assert (result.stdout, result.returncode) == ("", 1)
        assert "no user-data at" in result.stderr


def test_an_old_wget_alone_uses_clouds_without_tokens_and_says_what_the_others_ask_for(
    tmp_path: Path, cloud: Cloud
) -> None:
    guest = make_guest(tmp_path / "guest", CANNOT_PUT)
    assert guest.ask(cloud.address, "get", "ami-id").stdout == f"{VALUES['ami-id']}\n"
    if "wget" in list_kinds():
        guest = make_guest(tmp_path / "other", "wget")
        cloud.tokens, cloud.token = "required", "no token: spaces"
        result = guest.ask(cloud.address, "get", "ami-id")
        assert (result.stdout, result.returncode) == ("", 1)
        assert result.stderr == (f"meta-data: not found at {cloud.address} within 0 s, where a session token is asked"
                                 " for that this guest cannot get\n")  # fmt: skip


@pytest.mark.parametrize("token", [
    'x" \n output = "/tmp/never"', "x\noutput=never", " ", ERROR_PAGE.decode(), "x" * 5000,
])  # fmt: skip
def test_a_hostile_token_is_not_taken(real_guest: Guest, cloud: Cloud, token: str) -> None:
    cloud.tokens, cloud.token = "required", token
    result = real_guest.ask(cloud.address, "get", "ami-id")
    assert (result.stdout, result.returncode) == ("", 1)
    assert_nothing_is_left(real_guest)
    assert not [request for request in cloud.requests if "instance-id" not in request and "PUT" not in request]


def test_a_token_is_shown_to_the_cloud_that_gave_it_alone(real_guest: Guest, cloud: Cloud) -> None:
    cloud.tokens = "possible"  # a token of another's would be refused
    with run_cloud() as portal:
        portal.tokens = "required"
        portal.say("meta-data/instance-id", ERROR_PAGE)
        result = real_guest.ask(f"{portal.address} {cloud.address}", "get", "instance-id")
        assert (result.stdout, portal.complaints, len(portal.given)) == ("i-2ECA052C\n", [], 1)
    assert not cloud.given
    assert "PUT /latest/api/token" not in cloud.requests


@pytest.mark.parametrize(("key", "answer"), [
    ("instance-id", "i-2ECA052C\n"), ("/placement/", "availability-zone\n"), ("public-keys", "0=admin_key\n"),
    ("public-keys/0/openssh-key", f"{KEY}\n"), ("/", "".join(f"{name}\n" for name in sorted(
        {name.split("/")[0] + "/" * ("/" in name) for name in VALUES} | {"public-keys/"}))),
])  # fmt: skip
def test_a_key_is_printed_and_a_folder_listed(quick_guest: Guest, cloud: Cloud, key: str, answer: str) -> None:
    result = quick_guest.ask(cloud.address, "get", key)
    assert (result.stdout, result.stderr, result.returncode) == (answer, "", 0)


@pytest.mark.parametrize("answer", [404, 500, ERROR_PAGE, b"\x1b]0;title\x07", b"x" * 5000, b"", b"\xe9"])
def test_what_is_not_there_or_no_text_is_an_error(quick_guest: Guest, cloud: Cloud, answer: bytes | int) -> None:
    cloud.say("meta-data/kernel-id", answer)
    result = quick_guest.ask(cloud.address, "get", "kernel-id")
    assert (result.stdout, result.returncode) == ("", 1)
    assert result.stderr == f"meta-data: no kernel-id at {cloud.address}\n"


def test_no_user_data_and_no_cloud_are_errors(quick_guest: Guest, cloud: Cloud) -> None:
    result = quick_guest.ask(cloud.address, "user-data")
    assert (result.stdout, result.returncode) == ("", 1)
    assert result.stderr == f"meta-data: no user-data at {cloud.address}, or more than 65536 bytes of it\n"
    result = quick_guest.ask("http://127.0.0.1:9", "tree")
    assert (result.stdout, result.returncode) == ("", 1)
    assert result.stderr == "meta-data: not found at http://127.0.0.1:9 within 0 s\n"


@pytest.mark.parametrize("words", [
    ("get",), ("get", "a", "b"), ("put",), ("tree", "x"), ("user-data", "x"), ("",), ("get", "../user-data"),
    ("get", "a/../b"), ("get", "a//b"), ("get", "a b"), ("get", "a\nb"), ("get", "$(id)"), ("get", "a?b"),
    ("get", "."), ("start",), ("-x",),
])  # fmt: skip
def test_what_it_does_not_know_is_refused_before_anything_is_asked(
    quick_guest: Guest, cloud: Cloud, words: tuple[str, ...]
) -> None:
    result = quick_guest.ask(cloud.address, *words)
    assert (result.stdout, result.returncode) == ("", 2)
    assert "Usage: meta-data" in result.stderr or "no name of a key" in result.stderr
    assert cloud.requests == []


def test_the_usage_says_what_there_is(guest: Guest, cloud: Cloud) -> None:
    result = guest.ask(cloud.address, "--help")
    assert (result.stderr, result.returncode, cloud.requests) == ("", 0, [])
    assert all(word in result.stdout for word in ("meta-data get KEY", "meta-data tree", "IMDSv2", "META_DATA_RUN"))
    assert "set -u" not in result.stdout


def test_anyone_may_ask(cloud: Cloud, tmp_path: Path) -> None:
    """With nothing set but where to ask: what is written is in the usual temporary folder, and goes."""
    results = tmp_path / "results"
    results.mkdir(mode=0o555)
    environment = {"PATH": os.defpath, "TMPDIR": str(tmp_path), "META_DATA_RESULTS": str(results),
                   "META_DATA_ADDRESSES": cloud.address, "META_DATA_CONF": str(tmp_path / "none")}  # fmt: skip
    words = ["sh", str(SCRIPT), "get", "ami-id"]
    result = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=50)
    assert (result.stdout, result.stderr, result.returncode) == (f"{VALUES['ami-id']}\n", "", 0)
    assert list(tmp_path.rglob("*")) == [results]


def test_a_value_of_several_lines_has_its_key_on_each(quick_guest: Guest, cloud: Cloud) -> None:
    cloud.answers = {f"meta-data/{name}": VALUES[name].encode() for name in ("instance-id", "ami-id")}
    cloud.say("meta-data/security-groups", "default\r\nweb|&\\1\r\n")
    tree = quick_guest.ask(cloud.address, "tree")
    assert tree.stdout == (
        "ami-id = emi-7C83135D\ninstance-id = i-2ECA052C\n"
        "security-groups = default\nsecurity-groups = web|&\\1\n"
    )


def test_a_tree_without_end_is_left_off_with_a_word(guest: Guest, cloud: Cloud) -> None:
    cloud.say("meta-data/", "instance-id\nwell/")
    for depth in range(1, 20):
        cloud.say("meta-data/" + "well/" * depth, "well/")
    result = guest.ask(cloud.address, "tree")
    assert (result.stdout, result.returncode) == ("instance-id = i-2ECA052C\n", 1)
    assert result.stderr == f"meta-data: there is more than this, in {'well/' * 8}\n"


def test_a_tree_too_wide_is_left_off_with_a_word(quick_guest: Guest, cloud: Cloud) -> None:
    """Each folder lists forty more, of which only the first is ever entered."""
    names = [f"{number:099d}/" for number in range(40)]
    cloud.say("meta-data/", "\n".join(["instance-id", *names]))
    for depth in range(1, 9):
        cloud.say("meta-data/" + names[0] * depth, "\n".join(names))
    result = quick_guest.ask(cloud.address, "tree")
    assert (result.stdout, result.returncode) == ("instance-id = i-2ECA052C\n", 1)
    assert result.stderr.startswith("meta-data: there is more than this, from ")
    assert len(cloud.requests) < 30


def test_a_tree_of_too_many_keys_is_left_off_with_a_word(quick_guest: Guest, cloud: Cloud) -> None:
    cloud.say("meta-data/", "\n".join(["x"] * 501))
    cloud.say("meta-data/x", "y")
    result = quick_guest.ask(cloud.address, "tree")
    assert (result.stdout, result.returncode) == ("x = y\n" * 500, 1)
    assert result.stderr == "meta-data: there is more than this, from x on\n"


NAMES = st.text(string.ascii_lowercase + "/.$`&|\\*' =", max_size=12)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES, max_size=6), st.text(string.printable, max_size=40))
def test_whatever_a_list_names_only_what_is_below_is_asked(
    cloud: Cloud, tmp_path_factory: pytest.TempPathFactory, names: list[str], value: str
) -> None:
    guest = make_guest(tmp_path_factory.mktemp("guest"), list_kinds()[-1])
    cloud.say("meta-data/", "\n".join(names) or "x")
    cloud.say("meta-data/a", value)
    cloud.requests.clear()
    result = guest.ask(cloud.address, "tree")
    assert result.returncode in (0, 1)
    assert_nothing_is_left(guest)
    assert all(request.startswith("/latest/meta-data") and ".." not in request for request in cloud.requests)
    assert all(" = " in line for line in result.stdout.splitlines())
