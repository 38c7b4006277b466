"""From what a cloud asks for to a guest: the domain's configuration, the files, what meta-data are added."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from xenkiln.errors import HostError, XenkilnError
from xenkiln.lab.guest import GuestFile, make_job
from xenkiln.lab.instance_guest import complete_meta_data, describe_instance, render_config, require_files
from xenkiln.lab.meta_data import make_meta_data
from xenkiln.model.lab_instance import InstanceSpec

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPx0 me"
SPEC = InstanceSpec(
    name="i-2ECA052C", memory_mib=128, vcpus=2, kernel="/images/vmlinuz", ramdisk="/images/initrd.img",
    root="root.img", root_device="sda1", arguments='root=/dev/sda1 ro console=hvc0 x="y"',
)  # fmt: skip
CONFIG = """\
type = "pv"
kernel = "/var/lib/xen/instances/i-2ECA052C/kernel"
ramdisk = "/var/lib/xen/instances/i-2ECA052C/ramdisk"
name = "i-2ECA052C"
memory = 128
vcpus = 2
disk = [ "format=raw, vdev=sda1, target=/var/lib/xen/instances/i-2ECA052C/root.img" ]
extra = "root=/dev/sda1 ro console=hvc0 x=\\"y\\""
vif = [ "bridge=xenbr0" ]
on_poweroff = "destroy"
on_reboot = "restart"
on_crash = "destroy"
"""
PLACE = "/var/lib/xen/instances/i-2ECA052C"


def change(**values: object) -> InstanceSpec:
    return SPEC.model_copy(update=values)


def test_the_configuration_says_what_was_asked_for() -> None:
    assert render_config(SPEC) == CONFIG


def test_without_ramdisk_and_arguments_there_are_no_such_lines() -> None:
    without = [line for line in CONFIG.splitlines() if not line.startswith(("ramdisk", "extra"))]
    assert render_config(change(ramdisk=None, arguments="")).splitlines() == without


@pytest.mark.parametrize("arguments", ["größer", "a\tb", "x" * 2000])
def test_arguments_that_xen_would_not_take_are_refused(arguments: str) -> None:
    with pytest.raises(XenkilnError, match=r"cannot be written|the command line has \d+ characters"):
        render_config(change(arguments=arguments))


def test_the_guest_has_its_files_and_nothing_is_put_into_its_disk(tmp_path: Path) -> None:
    guest = describe_instance(change(public_key=KEY), Path("/folder"), tmp_path, "10.0.2.50")
    assert guest.config.read_text() == CONFIG
    assert guest.boot_files == (GuestFile(Path("/images/vmlinuz"), f"{PLACE}/kernel"),
                                GuestFile(Path("/images/initrd.img"), f"{PLACE}/ramdisk"))  # fmt: skip
    assert guest.disks == (GuestFile(Path("/folder/root.img"), f"{PLACE}/root.img"),)
    assert (guest.domain_name, guest.memory_mib, guest.is_pvh, guest.public_key) == ("i-2ECA052C", 128, False, "")
    assert guest.meta_data == complete_meta_data(change(public_key=KEY), "10.0.2.50")


def test_a_guest_without_ramdisk_has_one_boot_file(tmp_path: Path) -> None:
    guest = describe_instance(change(ramdisk=None), Path("/folder"), tmp_path, "10.0.2.50")
    guest = replace(guest, boot_files=tuple(replace(file, local=guest.config) for file in guest.boot_files))
    job = {member.path: member.content for member in make_job(guest, "10.0.2.50", [2])}
    assert job["run/lab/guests/i-2ECA052C/places"] == f"0 {PLACE}/kernel\n".encode()


def test_addresses_and_key_are_told_as_a_boots_guest_is_told_them() -> None:
    told = make_meta_data("tiny", "10.0.2.51", KEY)
    own = {path: body for path, body in told.items() if "10.0.2.51" in body or "public-keys" in path}
    assert len(own) == 7
    assert complete_meta_data(change(public_key=KEY), "10.0.2.51") == own


def test_what_the_spec_tells_stays_as_it_is() -> None:
    told = {"meta-data/public-ipv4": "192.168.1.3", "meta-data/public-keys/index": "0=my_key",
            "meta-data/public-keys/0/openssh-key": "ssh-rsa AAAA mine\n", "user-data": "x"}  # fmt: skip
    completed = complete_meta_data(change(public_key=KEY, meta_data=told), "10.0.2.51")
    assert {path: completed[path] for path in told} == told
    added = {path.removeprefix("meta-data/"): body for path, body in completed.items() if path not in told}
    assert added == dict.fromkeys(("local-ipv4", "local-hostname", "public-hostname", "hostname"), "10.0.2.51")


def test_without_a_key_none_is_told() -> None:
    assert not [path for path in complete_meta_data(SPEC, "10.0.2.51") if "public-keys" in path]


@pytest.mark.parametrize("name", ["kernel", "ramdisk", "root"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    names = {"kernel": "kernel", "ramdisk": str(tmp_path / "ramdisk"), "root": "root.img"}
    for file in names.values():
        (tmp_path / file).touch()
    require_files(change(**names), tmp_path)
    (tmp_path / names[name]).unlink()
    (tmp_path / names[name]).mkdir()
    with pytest.raises(HostError) as caught:
        require_files(change(**names), tmp_path)
    assert caught.value.place == str(tmp_path / names[name])


def test_an_instance_may_have_no_ramdisk_to_look_for(tmp_path: Path) -> None:
    for name in ("kernel", "root.img"):
        (tmp_path / name).touch()
    require_files(change(kernel="kernel", ramdisk=None), tmp_path)
