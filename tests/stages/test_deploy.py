"""Deploying to a real sshd with stand-ins for Xen's and LVM's programs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_host import SshHost, run_sshd
from xen_host import DATA_MIB, MIB, TOOLSTACK, Setting

from xenkiln.domains import delivery
from xenkiln.errors import XenkilnError
from xenkiln.model.domain import Domain
from xenkiln.system.files import allocated_bytes, hash_file
from xenkiln.system.ssh import ConnectionLostError


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    with run_sshd(tmp_path_factory.mktemp("sshd") / "host") as running:
        yield running


@pytest.fixture
def setting(host: SshHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setting]:
    yield Setting(host, tmp_path, monkeypatch)
    shutil.rmtree(host.tools)
    host.tools.mkdir()


def test_everything_arrives_and_the_domain_runs(setting: Setting) -> None:
    summary, _ = setting.run()
    for name in ("root.img", "swap.img", "vmlinuz", "initrd.img"):
        assert hash_file(setting.there / name) == hash_file(setting.paths.images / name)
        assert (setting.there / name).stat().st_mode & 0o077 == 0
    assert allocated_bytes(setting.there / "root.img") <= (DATA_MIB + 1) * MIB
    config = setting.etc / "small"
    assert config.read_text() == (setting.paths.images / "small.xl.cfg").read_text()
    assert f"target={setting.there}/root.img" in config.read_text()
    assert f"xl create {config}" in setting.calls
    assert summary.startswith("sent vmlinuz, initrd.img, root.img, swap.img, small.xl.cfg; small started on")
    assert "xl console small" in summary
    assert {path.name for path in setting.there.iterdir()} == {
        "root.img", "swap.img", "vmlinuz", "initrd.img", "small.deployed",
    }  # fmt: skip
    check = ["sha256sum", "--check", "--quiet", str(setting.there / "small.deployed")]
    subprocess.run(check, check=True)


@pytest.mark.parametrize("is_running", [True, False])
def test_a_second_deploy_sends_nothing_and_says_so(setting: Setting, is_running: bool) -> None:
    setting.run()
    if not is_running:
        setting.stop_domain()
    before = {path.name: path.stat().st_mtime_ns for path in setting.there.iterdir()}
    summary, log = setting.run()
    assert {path.name: path.stat().st_mtime_ns for path in setting.there.iterdir()} == before
    assert summary.startswith("nothing to send")
    assert ("already running" if is_running else "started") in summary
    assert ".partial" not in log


def test_only_what_has_changed_is_sent(setting: Setting) -> None:
    setting.run()
    setting.stop_domain()
    summary, _ = setting.run(Domain(directory=str(setting.there), memory_mib=99))
    assert summary.startswith("sent small.xl.cfg; small started")
    setting.stop_domain()
    setting.fill_images(2)
    assert setting.run()[0].startswith("sent vmlinuz, initrd.img, root.img, small.xl.cfg;")


def test_a_disk_that_the_guest_has_used_is_kept_until_there_is_a_new_build(setting: Setting) -> None:
    setting.run()
    with (setting.there / "root.img").open("r+b") as stream:
        stream.write(b"written by the guest")
    kept = hash_file(setting.there / "root.img")
    for _ in range(2):
        assert setting.run()[0].startswith("nothing to send; ")
        assert hash_file(setting.there / "root.img") == kept
        setting.stop_domain()
    setting.fill_images(2)
    setting.run()
    assert hash_file(setting.there / "root.img") == hash_file(setting.paths.images / "root.img")


def test_a_running_domain_is_not_pulled_from_under_its_users(setting: Setting) -> None:
    setting.run()
    (setting.folder / "calls").write_text("")
    setting.fill_images(2)
    message = setting.refuse()
    assert "small is running there from something else" in message
    assert "`xl shutdown small` there" in message


def test_files_of_others_are_not_overwritten(setting: Setting) -> None:
    setting.there.mkdir()
    (setting.there / "root.img").write_text("the work of years")
    (setting.etc / "small").write_text('name = "small"')
    message = setting.refuse()
    assert f"{setting.there}/root.img: is there already and no deploy has put it there" in message
    assert f"{setting.etc}/small: is there already" in message


def test_a_name_that_is_a_folder_of_xens_is_refused(setting: Setting) -> None:
    (setting.etc / "auto").mkdir()
    message = setting.refuse(Domain(directory=str(setting.there), name="auto"))
    assert "/auto: is a folder" in message


def test_a_host_without_the_toolstack_says_which_it_has(setting: Setting) -> None:
    message = setting.refuse(toolstack="xm")
    assert "has no xm" in message
    assert "toolstack: xl" in message


def test_a_host_not_booted_into_xen_is_named(setting: Setting) -> None:
    setting.add_tool("xl", "#!/bin/sh\necho 'Could not obtain handle on privileged command interface' >&2\nexit 1\n")
    message = setting.refuse()
    assert "`xl list` fails: Could not obtain handle" in message
    assert "boot that host into Xen" in message


def test_a_kernel_of_the_hosts_own_must_be_there(setting: Setting) -> None:
    kernel = setting.folder / "boot-vmlinuz"
    section = Domain(directory=str(setting.there), kernel=str(kernel))
    assert f"{kernel}: is not there" in setting.refuse(section)
    kernel.write_text("kernel")
    assert "vmlinuz" not in setting.run(section)[0]


def test_a_domain_that_ends_at_once_is_an_error(setting: Setting) -> None:
    setting.add_tool("xl", TOOLSTACK.replace(">>FOLDER/domains", ">/dev/null"))
    with pytest.raises(XenkilnError, match="was started and ended at once"):
        setting.run()


def test_xm_gets_its_own_file_and_start_can_be_left_out(setting: Setting) -> None:
    setting.add_tool("xm")
    summary, _ = setting.run(toolstack="xm", start=False)
    assert (setting.etc / "small").read_text() == (setting.paths.images / "small.xm.cfg").read_text()
    assert not any(" create" in call for call in setting.calls)
    assert summary == "sent vmlinuz, initrd.img, root.img, swap.img, small.xm.cfg"


def test_xm_cannot_start_pvh(setting: Setting) -> None:
    setting.add_tool("xm")
    section = Domain(directory=str(setting.there), type="pvh")
    assert "xm is older than pvh" in setting.refuse(section, toolstack="xm")


def test_a_cut_deploy_goes_on(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    real = delivery.send_file
    killed: list[str] = []

    def cut(plan: delivery.Delivery, file: object, digest: str, host: object, show: object) -> None:
        def kill(done: int, total: int) -> None:
            if done > 2 * MIB and not killed:
                killed.append("yes")
                setting.host.kill_sessions()

        real(plan, file, digest, host, kill)  # type: ignore[arg-type]

    monkeypatch.setattr(delivery, "send_file", cut)
    with pytest.raises(ConnectionLostError, match="goes on from here"):
        setting.run()
    assert not (setting.there / "root.img").exists()
    summary, log = setting.run()
    assert summary.startswith("sent root.img, swap.img, small.xl.cfg;")
    assert "going on from byte" in log


def test_no_secret_reaches_the_log(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XENKILN_SSH_PASSWORD", "hunter2-secret")
    summary, log = setting.run()
    key = (setting.host.folder / "user_key").read_text().splitlines()[2]
    assert "hunter2" not in summary + log + "".join(setting.calls)
    assert key not in log


@pytest.mark.root
def test_too_little_room_is_seen_before_anything_is_sent(setting: Setting) -> None:
    setting.there.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "small", str(setting.there)], check=True)
    try:
        assert "MiB are needed there, 2 MiB are free" in setting.refuse()
    finally:
        subprocess.run(["umount", str(setting.there)], check=True)
