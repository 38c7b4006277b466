"""Connections to a real sshd: who is trusted, who gets in, what arrives, what is said when it breaks."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_host import SshHost, make_key, run_sshd

from xenkiln.errors import CommandError, HostError
from xenkiln.system.ssh import ConnectionLostError, connect
from xenkiln.system.terminal import open_terminal


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    with run_sshd(tmp_path_factory.mktemp("sshd") / "host") as running:
        yield running


def ignore(_line: str) -> None:
    return


WORDS = ["a b", "$HOME", "`id`", "'; false #", '"', "\\", "*", "", "-n", "caf\u00e9", "line\nbreak"]


def test_every_word_arrives_as_it_is(host: SshHost) -> None:
    with connect(host.make_target(), ignore) as remote:
        out = remote.run(["printf", "%s\\0", *WORDS]).out
    assert out.split("\0")[:-1] == WORDS


def test_a_command_that_fails_says_how(host: SshHost) -> None:
    with connect(host.make_target(), ignore) as remote:
        with pytest.raises(CommandError) as caught:
            remote.run(["sh", "-c", "echo the reason >&2; exit 3"])
        assert remote.run(["sh", "-c", "exit 3"], accept=(3,)).code == 3
        assert remote.run(["cat"], input_text="given\n").out == "given\n"
    assert "exit code 3" in str(caught.value)
    assert "the reason" in str(caught.value)


def test_much_output_on_both_sides_does_not_block(host: SshHost) -> None:
    script = "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2"
    with connect(host.make_target(), ignore) as remote:
        answer = remote.run(["sh", "-c", script])
    assert (len(answer.out), len(answer.err)) == (1000000, 1000000)


def test_tools_of_the_administrator_are_found(host: SshHost) -> None:
    with connect(host.make_target(), ignore) as remote:
        path = remote.run(["sh", "-c", "echo $PATH:$LC_ALL"]).out.split(":")
    assert {"/usr/sbin", "/sbin", "C\n"} <= set(path)


def test_a_cut_in_the_middle_of_a_command_is_a_lost_connection(host: SshHost) -> None:
    def cut(_line: str) -> None:
        if started:
            host.kill_sessions()

    started: list[bool] = []
    with connect(host.make_target(), cut) as remote:
        started.append(True)
        with pytest.raises(ConnectionLostError, match="run this again"):
            remote.run(["sleep", "60"])


def test_a_command_that_takes_too_long_is_left_and_the_connection_stays(host: SshHost) -> None:
    with connect(host.make_target(), ignore) as remote:
        with pytest.raises(CommandError, match="has not ended within 0 s"):
            remote.run(["sleep", "60"], limit_seconds=0.1)
        assert remote.run(["echo", "here"], limit_seconds=20).out == "here\n"


def test_a_machine_that_stands_still_is_left(host: SshHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernel takes what is sent, and nobody reads it."""
    monkeypatch.setattr("xenkiln.system.ssh.GRACE_SECONDS", 0.5)
    with connect(host.make_target(), ignore) as remote:
        host.stop_sessions()
        try:
            with pytest.raises(ConnectionLostError):
                remote.run(["true"], limit_seconds=0.5)
            with pytest.raises(ConnectionLostError):
                remote.run(["true"], limit_seconds=0.5)
        finally:
            host.kill_sessions()


def test_an_unknown_host_is_refused_with_its_fingerprint(host: SshHost, tmp_path: Path) -> None:
    (tmp_path / "known").touch()
    listed = subprocess.run(["ssh-keygen", "-lf", host.folder / "host_key.pub"], capture_output=True, text=True)
    with (
        pytest.raises(HostError, match="nothing says that this is the right host") as caught,
        connect(host.make_target(known_hosts=str(tmp_path / "known")), ignore),
    ):
        pytest.fail("connected")
    assert listed.stdout.split()[1] in str(caught.value)


def test_a_changed_host_key_is_refused(host: SshHost, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.write_text(f"[127.0.0.1]:{host.port} {make_key(tmp_path / 'other')}")
    with (
        pytest.raises(HostError, match="its key has changed") as caught,
        connect(host.make_target(known_hosts=str(known)), ignore),
    ):
        pytest.fail("connected")
    assert f"ssh-keygen -R '[127.0.0.1]:{host.port}'" in str(caught.value)


def test_a_fingerprint_stands_for_known_hosts(host: SshHost) -> None:
    listed = subprocess.run(["ssh-keygen", "-lf", host.folder / "host_key.pub"], capture_output=True, text=True)
    fingerprint = listed.stdout.split()[1]
    with connect(host.make_target(known_hosts=None, fingerprint=fingerprint), ignore) as remote:
        assert remote.succeeds(["true"])
    other = f"{fingerprint[:-1]}{'A' if fingerprint[-1] != 'A' else 'E'}"
    with (
        pytest.raises(HostError, match="the recipe says"),
        connect(host.make_target(fingerprint=other), ignore),
    ):
        pytest.fail("connected")


def test_a_missing_known_hosts_file_is_named(host: SshHost, tmp_path: Path) -> None:
    target = host.make_target(known_hosts=str(tmp_path / "nowhere"))
    with pytest.raises(HostError, match="nowhere"), connect(target, ignore):
        pytest.fail("connected")


def test_a_wrong_key_and_password_are_refused_and_not_repeated(
    host: SshHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENKILN_SSH_PASSWORD", "hunter2-secret")
    make_key(tmp_path / "other")
    log: list[str] = []
    with (
        pytest.raises(HostError, match="does not let us in") as caught,
        connect(host.make_target(key_file=str(tmp_path / "other")), log.append),
    ):
        pytest.fail("connected")
    assert "the password in XENKILN_SSH_PASSWORD" in str(caught.value)
    assert "hunter2" not in str(caught.value) + "".join(log)


def test_a_key_file_that_is_not_there_or_locked_is_named(host: SshHost, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="absent"), connect(host.make_target(key_file=str(tmp_path / "absent")), ignore):
        pytest.fail("connected")
    locked = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "phrase", "-f", locked], check=True)
    with pytest.raises(HostError, match="ssh-add"), connect(host.make_target(key_file=str(locked)), ignore):
        pytest.fail("connected")


def test_a_host_that_is_not_there_is_named(host: SshHost) -> None:
    with pytest.raises(HostError, match="cannot be reached on port 1:"), connect(host.make_target(port=1), ignore):
        pytest.fail("connected")


def test_a_terminal_is_opened_against_the_verified_key(host: SshHost, tmp_path: Path) -> None:
    answer = tmp_path / "it's here"
    assert open_terminal(host.make_target(), ["sh", "-c", 'echo "$1" >"$1"; exit 5', "sh", str(answer)]) == 5
    assert answer.read_text() == f"{answer}\n"
