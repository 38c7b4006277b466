"""The tiny guest's own init, network, meta-data client and ssh server, on a real network beside a small cloud."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_repository

from guest.cloud import VALUES
from xenkiln.families import tiny
from xenkiln.families.contract import Guest
from xenkiln.model.configure import Configure
from xenkiln.model.image import Disks, Kernel
from xenkiln.system.execution import run_steps

pytestmark = [pytest.mark.root, pytest.mark.network]
DRIVER = Path(__file__).with_name("boot_driver.py")


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("boot")
    context = tiny_repository.make_repository(folder / "build")
    root = folder / "root"
    tiny_repository.install_base(context.paths.repository("tiny"), root, folder)
    disks = Disks.model_validate({"root": {"size_mib": 96}})
    configure = Configure.model_validate({"hostname": "guest1", "fetch_metadata": True, "variables": {}})
    guest = Guest("tiny", "1", "x86_64", disks, Kernel(), configure, "hvc0", "/dev/xvda1")
    run_steps(list(tiny.make_configure_steps(guest, root)), context)
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "admin_key", "-f", key], check=True)
    result = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
         sys.executable, DRIVER, root, key],
        env={**os.environ, "PYTHONPATH": str(DRIVER.parents[1])}, stdout=subprocess.PIPE, timeout=200, check=True,
    )  # fmt: skip
    answer: dict[str, Any] = json.loads(result.stdout)
    answer["root"], answer["key"] = root, key.with_suffix(".pub").read_text()
    return answer


def section(booted: dict[str, Any], number: int) -> list[str]:
    lines: list[str] = booted["answer"].split("---\n")[number].splitlines()
    return lines


def test_it_says_what_it_does_on_its_console(booted: dict[str, Any]) -> None:
    console = booted["console"]
    assert "tiny: network up: eth0 10.0.2.50/24" in console
    assert "tiny: ssh host key: SHA256:" in console
    assert "tiny: ready: guest1, " in console
    assert "meta-data: fetched 18 values and 1 ssh keys of instance i-2ECA052C from http://10.0.2.1:8773" in console
    assert "meta-data: running the user-data script" in console


def test_the_key_of_the_cloud_opens_the_door(booted: dict[str, Any]) -> None:
    assert booted["ssh"] == 0, booted["answer"]
    assert section(booted, 0) == [booted["key"].strip()]
    code, words = booted["without_key"]
    assert code == 255
    assert "Permission denied (publickey)" in words


def test_the_meta_data_is_there(booted: dict[str, Any]) -> None:
    assert section(booted, 1) == sorted(f"./{name}" for name in (*VALUES, "public-keys/0/openssh-key"))
    assert booted["complaints"] == []
    assert (booted["root"] / "root/user-data-was-here").exists()


def test_its_network_and_filesystems_are_set_up(booted: dict[str, Any]) -> None:
    assert section(booted, 2) == ["search cloud.test", "nameserver 10.0.2.3"]
    assert any(line.startswith("default via 10.0.2.1 dev eth0") for line in section(booted, 3))
    mounts = "\n".join(section(booted, 4))
    for where in ("/proc", "/sys", "/run", "/dev/pts", "/dev/shm"):
        assert f" on {where} type " in mounts
    assert section(booted, 5) == ["guest1"]


def test_nothing_of_the_first_boot_is_left_in_an_image(booted: dict[str, Any]) -> None:
    made = list((booted["root"] / "etc/dropbear").iterdir())
    assert made, "the host key is made at first boot"
    swept = {path for glob in tiny.CLEANUP for path in booted["root"].glob(glob)}
    assert set(made) <= swept
