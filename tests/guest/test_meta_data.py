"""The meta-data client against a strict cloud: right answers, hostile ones, none at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guest.cloud import ERROR_PAGE, KEY, VALUES, Cloud, run_cloud
from guest.guests import Guest, list_kinds, make_guest


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_value_of_the_table_and_the_key_arrive(guest: Guest, cloud: Cloud) -> None:
    result = guest.ask(cloud.address)
    assert (result.stdout, result.stderr, result.returncode) == (
        f"meta-data: fetched 18 values and 1 ssh keys of instance i-2ECA052C from {cloud.address}\n", "", 0
    )  # fmt: skip
    assert {name: (guest.values / name).read_text() for name in VALUES} == VALUES
    assert guest.keys.read_text() == f"{KEY}\n"
    assert (mode(guest.keys), mode(guest.keys.parent)) == (0o600, 0o700)
    assert not (guest.folder / "run/user-data").exists()
    assert [path.name for path in (guest.folder / "run").iterdir()] == ["meta-data"]


def test_asking_again_leaves_one_key_and_the_users_own(guest: Guest, cloud: Cloud) -> None:
    guest.keys.parent.mkdir(parents=True)
    guest.keys.write_text("# mine\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE me")  # no newline at its end
    for _ in range(2):
        assert guest.ask(cloud.address).returncode == 0
    assert guest.keys.read_text() == f"# mine\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE me\n{KEY}\n"


def test_several_keys_each_once(quick_guest: Guest, cloud: Cloud) -> None:
    second = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPx+/x Second Key <second@example.org>"
    cloud.say("meta-data/public-keys/", "0=admin_key\n1=other")
    cloud.say("meta-data/public-keys/1/openssh-key", f"{second}\r\n")
    assert quick_guest.ask(cloud.address).returncode == 0
    assert quick_guest.keys.read_text() == f"{KEY}\n{second}\n"


@pytest.mark.parametrize(
    "answer",
    [ERROR_PAGE, b"  <?xml version='1.0'?><Error/>", b"\n<!DOCTYPE html>", b"", 404, 500, 302, b"i-1\0", b"i-1\ni-2\n",
     b"i-2ECA052C; reboot", b"emi-12345", b"i-\xc3\xa9", b"i-" + b"1" * 40, b"i-1" + b" " * 9000],
)  # fmt: skip
def test_an_answer_that_is_no_instance_is_refused(quick_guest: Guest, cloud: Cloud, answer: bytes | int) -> None:
    cloud.say("meta-data/instance-id", answer)
    result = quick_guest.ask(cloud.address)
    assert result.stdout == f"meta-data: not found at {cloud.address} within 0 s\n"
    assert result.returncode == 1
    assert not quick_guest.keys.exists()
    assert list((quick_guest.folder / "run").iterdir()) == []


def test_the_second_address_is_asked_when_the_first_is_a_portal(quick_guest: Guest, cloud: Cloud) -> None:
    with run_cloud() as portal:
        portal.answers = dict.fromkeys(portal.answers, ERROR_PAGE)
        result = quick_guest.ask(f"{portal.address} {cloud.address}")
    assert f"i-2ECA052C from {cloud.address}\n" in result.stdout


@pytest.mark.parametrize(
    "key",
    ['command="reboot" ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7 x', "ssh-rsa", "ssh-rsa !!!!", ERROR_PAGE.decode(),
     "-----BEGIN RSA PRIVATE KEY-----", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB\0x"],
)  # fmt: skip
def test_what_is_no_plain_key_is_not_installed(quick_guest: Guest, cloud: Cloud, key: str) -> None:
    cloud.say("meta-data/public-keys/0/openssh-key", key)
    result = quick_guest.ask(cloud.address)
    assert result.returncode == 0
    assert "0 ssh keys" in result.stdout
    assert not quick_guest.keys.exists()


@pytest.mark.parametrize("names", ["../../../etc=x", "0/../../x=y", "$(reboot)=x", "0=a b; c\n00000=x", "<html>"])
def test_names_of_keys_never_become_paths(quick_guest: Guest, cloud: Cloud, names: str) -> None:
    cloud.say("meta-data/public-keys/", names)
    assert quick_guest.ask(cloud.address).returncode == 0
    asked = {path for path in cloud.requests if "public-keys/" in path} - {"/latest/meta-data/public-keys/"}
    assert asked <= {"/latest/meta-data/public-keys", "/latest/meta-data/public-keys/0/openssh-key"}


def test_values_that_are_missing_or_hostile_are_left_out(quick_guest: Guest, cloud: Cloud) -> None:
    cloud.say("meta-data/ramdisk-id", 404)
    cloud.say("meta-data/hostname", ERROR_PAGE)
    cloud.say("meta-data/public-hostname", b"\x1b]0;title\x07")
    cloud.say("meta-data/product-codes", b"x" * 5000)
    assert "fetched 14 values" in quick_guest.ask(cloud.address).stdout
    kept = VALUES.keys() - {"ramdisk-id", "hostname", "public-hostname", "product-codes"}
    found = {str(path.relative_to(quick_guest.values)) for path in quick_guest.values.rglob("*") if path.is_file()}
    assert found == {*kept, "public-keys/0/openssh-key"}


def test_a_busy_cloud_is_asked_again(quick_guest: Guest, cloud: Cloud) -> None:
    cloud.silent.add("meta-data/hostname")
    assert f"fetched {len(VALUES)} values" in quick_guest.ask(cloud.address).stdout
    assert (quick_guest.values / "hostname").read_text() == VALUES["hostname"]
    assert cloud.requests.count("/latest/meta-data/hostname") == 2


def test_user_data_is_kept_byte_for_byte_and_private(guest: Guest, cloud: Cloud) -> None:
    data = bytes(range(256)) * 64
    cloud.say("user-data", data)
    assert guest.ask(cloud.address).returncode == 0
    kept = guest.folder / "run/user-data"
    assert kept.read_bytes() == data
    assert mode(kept) == 0o600


def test_user_data_that_is_too_large_is_not_kept_in_part(quick_guest: Guest, cloud: Cloud) -> None:
    cloud.say("user-data", b"#!/bin/sh\n" + b"#" * 70000)
    assert quick_guest.ask(cloud.address).returncode == 0
    assert not (quick_guest.folder / "run/user-data").exists()


def test_a_script_runs_once_per_instance(quick_guest: Guest, cloud: Cloud) -> None:
    cloud.say("user-data", f"#!/bin/sh\necho ran >>{quick_guest.folder}/ran\necho to the log\nexit 3\n")
    result = quick_guest.ask(cloud.address)
    assert f"failed with exit code 3, see {quick_guest.folder}/user-data.log" in result.stdout
    assert (quick_guest.folder / "user-data.log").read_text() == "to the log\n"
    assert "user-data script" not in quick_guest.ask(cloud.address).stdout
    cloud.say("meta-data/instance-id", "i-00000002")
    quick_guest.ask(cloud.address)
    assert (quick_guest.folder / "ran").read_text() == "ran\nran\n"


def test_a_script_is_only_kept_where_the_guest_says_so(quick_guest: Guest, cloud: Cloud) -> None:
    cloud.say("user-data", f"#!/bin/sh\ntouch {quick_guest.folder}/ran\n")
    (quick_guest.folder / "none.conf").write_text("META_DATA_RUN=no\n")
    assert quick_guest.ask(cloud.address).returncode == 0
    assert not (quick_guest.folder / "ran").exists()


def test_old_results_go_with_the_instance_they_were_of(quick_guest: Guest, cloud: Cloud) -> None:
    cloud.say("user-data", "hello")
    quick_guest.ask(cloud.address)
    del cloud.answers["user-data"], cloud.answers["meta-data/kernel-id"]
    quick_guest.ask(cloud.address)
    assert not (quick_guest.folder / "run/user-data").exists()
    assert not (quick_guest.values / "kernel-id").exists()


def test_without_addresses_the_gateway_of_the_default_route_is_asked(quick_guest: Guest) -> None:
    routes = quick_guest.folder / "route"
    routes.write_text(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n"
        "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"
        "eth0\t00000000\t0100007F\t0003\t0\t0\t0\t00000000\n"
        "eth1\t00000000\tzz$(id)z\t0003\t0\t0\t0\t00000000\n"
    )
    # Nobody answers at either: what is said about it names both.
    result = quick_guest.ask("", META_DATA_ROUTES=str(routes), META_DATA_SECONDS="0")
    assert result.stdout == (
        "meta-data: not found at http://169.254.169.254 http://127.0.0.1:8773 within 0 s\n"
    )


def test_a_guest_without_a_downloader_says_so(quick_guest: Guest) -> None:
    for name in ("curl", "wget", "busybox"):
        (quick_guest.folder / "bin" / name).unlink(missing_ok=True)
    quick_guest.shell = "/bin/sh"
    result = quick_guest.ask("http://127.0.0.1:9")
    assert result.stdout == "meta-data: not fetched: this guest has neither curl nor wget\n"
    assert result.returncode == 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from([*VALUES, "public-keys/", "public-keys/0/openssh-key"]), st.binary()))
def test_whatever_a_cloud_says_nothing_else_is_written(
    cloud: Cloud, tmp_path_factory: pytest.TempPathFactory, answers: dict[str, bytes]
) -> None:
    guest = make_guest(tmp_path_factory.mktemp("guest"), list_kinds()[-1])
    for name, body in answers.items():
        cloud.say(f"meta-data/{name}", body)
    result = guest.ask(cloud.address, META_DATA_SECONDS="0")
    assert result.returncode in (0, 1)
    assert result.stdout.isprintable() or result.stdout.count("\n") == 1
    allowed = {"bin", "run", "root", "tmp"}
    assert {path.name for path in guest.folder.iterdir()} <= allowed
    if guest.keys.exists():
        assert all(line.startswith(("ssh-", "ecdsa-", "sk-")) for line in guest.keys.read_text().splitlines())
