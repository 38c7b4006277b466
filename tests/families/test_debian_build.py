"""Debian 12 really built, from the host's own mirror: what is in the image, and what must not be in it."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from xenkiln.system.layout import PROJECT

pytestmark = [pytest.mark.root, pytest.mark.network]

CLEAR_PASSWORD = "kept-out-of-every-file-7261"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIexample me@example.org"
GUEST_MIRROR = "http://guest-mirror.example/debian"
NAME = "proof"
SETTINGS = f"""\
  hostname: proof-guest
  network:
    manager: networkd
    dns: [192.0.2.53]
    interfaces: [{{name: eth0, method: static, address: 192.0.2.10/24, gateway: 192.0.2.1}}]
  root_password: {{environment: PROOF_PASSWORD}}
  ssh_keys: ["{KEY}"]
  users: [{{name: alice, uid: 1000, groups: [adm]}}]
  load_modules: [loop]
  fetch_metadata: true
  scripts: [{{content: "#!/bin/sh\\nls /dev >/etc/devices-of-the-build\\n"}}]
  sources:
    apt: ["deb {GUEST_MIRROR} bookworm main"]

"""


def run(*argv: str | Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", env={**os.environ, **(env or {})})
    assert done.returncode == 0, f"{argv}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build folder after `doit build:proof`; downloads are shared with other builds."""
    folder = tmp_path_factory.mktemp("build-of-this-host")
    text = (PROJECT / "recipes/images/debian-12.yaml").read_text()
    text = text.replace("    - openssh-server\n", "    - curl\n    - openssh-server\n")
    start, end = text.index("  hostname:"), text.index("ramdisk:\n")
    (folder / "recipes").mkdir()
    (folder / f"recipes/{NAME}.yaml").write_text(text[:start] + SETTINGS + text[end:])
    run_build(folder)
    return folder / "build"


def run_build(folder: Path) -> None:
    cache = os.environ.get("XENKILN_CACHE") or str(PROJECT / "build/cache")
    env = {"XENKILN_RECIPES": str(folder / "recipes"), "XENKILN_BUILD": str(folder / "build"), "XENKILN_CACHE": cache,
           "PROOF_PASSWORD": CLEAR_PASSWORD}  # fmt: skip
    run(sys.executable, "-m", "doit", "-f", PROJECT / "dodo.py", f"build:{NAME}", env=env)


@pytest.fixture(scope="module")
def images(build: Path) -> Path:
    return build / "images" / NAME


@pytest.fixture(scope="module")
def tree(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in the image, taken out without mounting it."""
    folder = tmp_path_factory.mktemp("tree")
    run("debugfs", "-R", f"rdump / {folder}", images / "root.img")
    return folder


def read(tree: Path, name: str) -> str:
    return (tree / name).read_text()


def find_text(text: str, folder: Path) -> list[str]:
    """The files below a folder that hold a text."""
    done = subprocess.run(["grep", "-rlaF", "--", text, str(folder)], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.splitlines()


def test_what_is_installed_is_what_is_listed(tree: Path, images: Path) -> None:
    form = "${Package} ${Version} ${Architecture}\n"
    installed = run("dpkg-query", "--admindir", tree / "var/lib/dpkg", "-W", "-f", form).splitlines()
    listed = json.loads((images / "packages.json").read_text())
    assert sorted(installed) == sorted(f"{p['name']} {p['version']} {p['arch']}" for p in listed)
    assert {"openssh-server", "linux-image-cloud-amd64"} <= {p["name"] for p in listed}


def test_no_trace_of_the_build_is_in_the_image(tree: Path, build: Path) -> None:
    assert find_text(str(build.parent), tree) == []
    assert find_text(str(PROJECT), tree) == []


def test_no_trace_of_this_host_is_in_the_image(tree: Path) -> None:
    hostname = socket.gethostname()
    files = find_text(hostname, tree / "etc") + find_text(hostname, tree / "var")
    assert len(hostname) < 5 or files == []
    assert read(tree, "etc/hostname") == "proof-guest\n"
    assert "proof-guest" in read(tree, "etc/hosts")


def test_the_mirror_of_the_build_is_not_the_guests(tree: Path) -> None:
    sources = [tree / "etc/apt/sources.list", *(tree / "etc/apt/sources.list.d").iterdir()]
    assert "".join(path.read_text() for path in sources) == f"deb {GUEST_MIRROR} bookworm main\n"
    assert [path for path in (tree / "var/lib/apt/lists").rglob("*") if path.is_file()] == []
    assert [path for path in (tree / "var/cache/apt").rglob("*") if path.is_file()] == []
    assert list((tree / "etc/apt/apt.conf.d").glob("*mmdebstrap*")) == []


def test_the_resolver_is_the_guests(tree: Path) -> None:
    path = tree / "etc/resolv.conf"
    assert path.is_symlink() or path.read_text() == "nameserver 192.0.2.53\n"


def test_nothing_identifies_the_guest_yet(tree: Path) -> None:
    assert read(tree, "etc/machine-id") == ""
    assert not (tree / "var/lib/dbus/machine-id").is_file()
    assert list((tree / "etc/ssh").glob("ssh_host_*")) == []
    assert not (tree / "var/lib/systemd/random-seed").exists()


def test_services_are_on(tree: Path) -> None:
    wanted = {path.name for path in (tree / "etc/systemd/system").glob("*.wants/*")}
    assert {"systemd-networkd.service", "serial-getty@hvc0.service", "xenkiln-ssh-keys.service",
            "xenkiln-grow-root.service", "xenkiln-meta-data.service", "ssh.service"} <= wanted  # fmt: skip


def run_inside(tree: Path, *argv: str) -> None:
    """Run a program in the tree, with a /dev that is gone when it ends."""
    run("unshare", "--mount", "sh", "-c", 'mount --rbind /dev "$1/dev" && exec chroot "$@"', "sh", tree, *argv)


def test_the_guest_makes_its_host_keys_itself(tree: Path) -> None:
    run_inside(tree, "/usr/sbin/xenkiln-ssh-keys")
    made = {path.name for path in (tree / "etc/ssh").glob("ssh_host_*_key")}
    assert made == {f"ssh_host_{kind}_key" for kind in ("rsa", "ecdsa", "ed25519")}
    before = {name: (tree / "etc/ssh" / name).read_bytes() for name in made}
    run_inside(tree, "/usr/sbin/xenkiln-ssh-keys")
    assert {name: (tree / "etc/ssh" / name).read_bytes() for name in made} == before
    run_inside(tree, "sh", "-c", "mkdir -p /run/sshd && sshd -t && rmdir /run/sshd")
    for name in made:
        assert stat.S_IMODE((tree / "etc/ssh" / name).stat().st_mode) == 0o600
        (tree / "etc/ssh" / name).unlink()
        (tree / "etc/ssh" / f"{name}.pub").unlink()


def test_scripts_saw_a_small_dev_and_left_nothing_in_run(tree: Path) -> None:
    devices = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert read(tree, "etc/devices-of-the-build").split() == devices.split()
    assert list((tree / "run").iterdir()) == []


def test_accounts(tree: Path) -> None:
    shadow = {line.split(":")[0]: line.split(":") for line in read(tree, "etc/shadow").splitlines()}
    assert shadow["root"][1].startswith("$6$")
    assert shadow["alice"][1] == "!"
    assert len({row[2] for row in shadow.values()}) == 1, "the day of the last change is the image's own"
    assert read(tree, "root/.ssh/authorized_keys") == f"{KEY}\n"
    assert (tree / "home/alice").stat().st_uid == 1000


def test_the_clear_password_is_nowhere(build: Path) -> None:
    assert find_text(CLEAR_PASSWORD, build) == []


def test_the_ramdisk_is_small_and_has_the_drivers(images: Path) -> None:
    names = run("lsinitramfs", images / "initrd.img") if Path("/usr/bin/lsinitramfs").exists() else run(
        "sh", "-c", f"gzip -dc '{images}/initrd.img' | cpio -it --quiet")  # fmt: skip
    for module in ("xen-blkfront", "xen-netfront"):  # ext4 is part of this kernel
        assert f"/{module}.ko" in names
    assert (images / "initrd.img").stat().st_size < 16e6


def test_a_changed_motd_is_in_the_image_and_makes_no_new_ramdisk(build: Path, images: Path) -> None:
    """The last test of this build: it goes on from it."""
    recipe = build.parent / f"recipes/{NAME}.yaml"
    records = {stage: (build / f"work/{NAME}/{stage}.json").read_bytes() for stage in ("bootstrap", "ramdisk")}
    text = recipe.read_text()
    recipe.write_text(text.replace("  scripts:", '  files: [{path: /etc/motd, content: "changed\\n"}]\n  scripts:'))
    run_build(build.parent)
    assert run("debugfs", "-R", "cat /etc/motd", images / "root.img") == "changed\n"
    assert {stage: (build / f"work/{NAME}/{stage}.json").read_bytes() for stage in records} == records
