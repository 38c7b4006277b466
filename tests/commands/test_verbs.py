"""The verbs on real images: what they say, what they leave alone, and what they find."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from xenkiln.system.layout import PROJECT

TINY = (PROJECT / "recipes" / "images" / "tiny.yaml").read_text(encoding="utf-8")
ONE_FILE_MORE = "\n  files: [{path: /etc/more, content: more}, {path: /var/log/app/keep, content: kept}]\n"
STAMP = """
  scripts:
    - content: |
        #!/bin/sh
        cat /proc/sys/kernel/random/uuid > /etc/stamp
"""

pytestmark = [pytest.mark.root, pytest.mark.network]


@dataclass(frozen=True)
class Kiln:
    """Recipes and a build folder of its own; packages that were fetched once are shared."""

    folder: Path

    def write(self, name: str, text: str) -> None:
        (self.folder / "recipes" / f"{name}.yaml").write_text(text, encoding="utf-8")

    def doit(self, *words: str, code: int = 0, given: str = "") -> str:
        done = subprocess.run([sys.executable, "-m", "doit", *words], cwd=PROJECT, env=self.environment, input=given,
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)  # fmt: skip
        assert done.returncode == code, done.stdout
        assert "Traceback" not in done.stdout, done.stdout
        return done.stdout

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A verb that goes on while the test looks."""
        return subprocess.Popen([sys.executable, "-m", "doit", *words], cwd=PROJECT, env=self.environment,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True)  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "XENKILN_RECIPES": str(self.folder / "recipes"), "XENKILN_BUILD": str(self.folder / "build"),
            "XENKILN_CACHE": str(PROJECT / "build" / "cache"), "PYTHONPATH": str(PROJECT), "COLUMNS": "200",
        }  # fmt: skip

    @property
    def images(self) -> Path:
        return self.folder / "build" / "images"


def wait_until_free(folder: Path) -> None:
    """The end of a namespace comes a moment after that of its process."""
    deadline = time.monotonic() + 15
    while left := list_left(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def list_left(folder: Path) -> list[str]:
    loops = [path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in (*loops, *mounts) if str(folder) in line]


@pytest.fixture(scope="module")
def kiln(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kiln]:
    """A tiny image, and another one with one more file in it."""
    kiln = Kiln(tmp_path_factory.mktemp("kiln"))
    (kiln.folder / "recipes").mkdir()
    kiln.write("tiny", TINY)
    other = TINY.replace("default: true", "default: false")
    kiln.write("other", other.replace("configure:\n", f"configure:{ONE_FILE_MORE}"))
    kiln.write("restless", other.replace("configure:\n", f"configure:{STAMP}"))
    kiln.doit("build:tiny", "build:other")
    yield kiln
    assert not list_left(kiln.folder)


def test_verify_builds_again_elsewhere_and_finds_the_same_bytes(kiln: Kiln) -> None:
    before = (kiln.images / "tiny" / "SHA256SUMS").stat()
    shared = set(Path("/dev/shm").iterdir())
    said = kiln.doit("verify:tiny")
    assert not {path for path in set(Path("/dev/shm").iterdir()) - shared if "faketime" in path.name}
    assert "the same, byte for byte, built again on another filesystem (" in said
    for what in ("clock (+40d)", "locale (tr_TR.UTF-8)", "time zone (Pacific/Chatham)", "umask (077)", "PATH",
                 "host name"):  # fmt: skip
        assert what in said
    after = (kiln.images / "tiny" / "SHA256SUMS").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert not [path for path in (kiln.folder / "build" / "verify").iterdir() if path.suffix != ".lock"]


def test_verify_reads_the_image_and_not_only_its_checksums(kiln: Kiln) -> None:
    """A byte that turned on the disk: size and time are as the record says, and it counts as built."""
    image = kiln.images / "tiny" / "vmlinuz"
    stat, whole = image.stat(), image.read_bytes()
    with image.open("r+b") as stream:
        stream.write(bytes([whole[0] ^ 1]))
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    said = kiln.doit("verify:tiny", code=1)
    assert "not what SHA256SUMS says: vmlinuz" in said
    assert "doit build:tiny" in said
    image.write_bytes(whole)
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_verify_names_the_file_that_differs(kiln: Kiln) -> None:
    said = kiln.doit("verify:restless", code=1)
    assert "differs: root.img" in said
    assert "/etc/stamp: content" in said
    assert "next: " in said
    assert not list_left(kiln.folder)


def test_diff_shows_what_one_image_has_more(kiln: Kiln) -> None:
    said = kiln.doit("diff:tiny:other")
    assert "/etc/more" in said
    assert "/var/log/app/keep" in said
    assert "/etc/passwd" not in said
    assert "packages that differ" not in said


def test_diff_of_an_image_that_is_not_there_says_how_to_have_it(kiln: Kiln) -> None:
    kiln.write("absent", TINY.replace("default: true", "default: false"))
    assert "next: doit build:absent" in kiln.doit("diff:tiny:absent", code=1)


def test_what_a_shell_changes_is_thrown_away(kiln: Kiln) -> None:
    digest = (kiln.images / "tiny" / "root.img").stat().st_mtime_ns
    said = kiln.doit("shell:tiny", given="cat /etc/hostname; echo changed > /etc/hostname; ls /proc/1/exe\nexit\n")
    assert "tiny" in said
    assert (kiln.images / "tiny" / "root.img").stat().st_mtime_ns == digest
    assert "tiny: up to date" in kiln.doit("build:tiny")
    assert not list((kiln.folder / "build" / "work" / "tiny").glob("shell-*"))


def test_sweep_leaves_a_running_shell_alone_and_takes_a_killed_ones_folder(kiln: Kiln) -> None:
    work = kiln.folder / "build" / "work" / "tiny"
    with kiln.start("shell:tiny") as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write("echo ready\n")
        shell.stdin.flush()
        while "ready" not in shell.stdout.readline():
            assert shell.poll() is None
        (folder,) = (path for path in work.glob("shell-*") if path.is_dir())
        said = kiln.doit("sweep", "--remove")
        assert f"passed over, it is in use: {folder}" in said
        assert "nothing is left over" in said
        assert "loop device" not in said
        assert folder.exists()
        shell.kill()
    wait_until_free(kiln.folder)
    assert f"removed a shell's folder: {folder}" in kiln.doit("sweep", "--remove")
    assert not list(work.glob("shell-*"))


def test_sweep_leaves_a_running_verify_alone_and_takes_what_a_killed_one_left(kiln: Kiln) -> None:
    place = kiln.folder / "build" / "verify"
    with kiln.start("verify:tiny") as verify:
        while not list((kiln.images / "tiny" / "logs").glob("verify.log")) or not (place / "tiny.fs").exists():
            assert verify.poll() is None
            time.sleep(0.01)
        said = kiln.doit("sweep", "--remove")
        assert f"passed over, it is in use: {place / 'tiny'}" in said
        assert "removed" not in said
        verify.kill()
    wait_until_free(kiln.folder)
    said = kiln.doit("sweep", "--remove")
    assert f"removed an unfinished verification: {place / 'tiny.fs'}" in said
    assert not [path for path in place.iterdir() if path.suffix != ".lock"]
    assert "nothing is left over" in kiln.doit("sweep")


def test_a_lock_pins_what_is_built_and_says_when_it_is_gone(kiln: Kiln) -> None:
    lock = kiln.folder / "recipes" / "other.lock.yaml"
    sums = (kiln.images / "other" / "SHA256SUMS").read_text()
    assert "commit it beside the recipe" in kiln.doit("lock:other")
    assert "nothing is left over" in kiln.doit("sweep")
    assert "as locked" in kiln.doit("build:other")
    whole = lock.read_text()
    lock.write_text("<<<<<<< torn: [")
    kiln.doit("lock:other")
    assert lock.read_text() == whole
    assert (kiln.images / "other" / "SHA256SUMS").read_text() == sums
    lines = lock.read_text().splitlines()
    planned = [json.loads(line.removeprefix("  - ")) for line in lines if line.startswith("  - ")]
    built = json.loads((kiln.images / "other" / "packages.json").read_text())
    assert {package["sha256"] for package in planned} == {package["sha256"] for package in built}
    lock.write_text(lock.read_text().replace(planned[0]["sha256"], "0" * 64).replace(
        planned[0]["location"], planned[0]["location"] + ".gone"))  # fmt: skip
    said = kiln.doit("build:other", code=1)
    assert planned[0]["name"] in said
    assert "doit lock:other" in said
    lock.write_text(whole)
    kiln.write("other", (kiln.folder / "recipes" / "other.yaml").read_text().replace("groups: [", "groups: [more, "))
    said = kiln.doit("build:other", code=1)
    assert "asks for other packages than when it was locked" in said
    assert "doit lock:other" in said
    lock.unlink()


def test_plan_shows_the_commands_that_the_build_ran(kiln: Kiln) -> None:
    """Every command with no part known only while building is in the log of its stage, word for word."""
    plan = kiln.doit("plan:tiny")
    logs = "\n".join(path.read_text() for path in (kiln.images / "tiny" / "logs").glob("*.log"))
    commands = [line.strip() for line in plan.splitlines() if line.strip().startswith("$ ")]
    assert len(commands) > 6
    for command in commands:
        if "$kernel_version" not in command:
            assert command.removeprefix("$ ") in logs, command
    assert f"> {kiln.images}/tiny/root.img" in plan
    assert "| memory = " in plan


def test_sweep_removes_what_is_left_and_nothing_else(kiln: Kiln) -> None:
    work = kiln.folder / "build" / "work" / "tiny"
    partial, innocent = work / "seal.img.partial", kiln.folder / "innocent.img"
    for path in (partial, innocent):
        path.write_bytes(bytes(1 << 20))
    devices = [subprocess.run(["losetup", "-f", "--show", str(path)], check=True, capture_output=True, text=True)
               .stdout.strip() for path in (partial, innocent)]  # fmt: skip
    try:
        said = kiln.doit("sweep")
        assert f"loop device {devices[0]}" in said
        assert devices[1] not in said
        assert partial.exists()
        said = kiln.doit("sweep", "--remove")
        assert f"removed partial file: {partial}" in said
        assert not partial.exists()
        assert innocent.exists()
        assert Path(f"/sys/block/{devices[1].removeprefix('/dev/')}/loop/backing_file").exists()
        assert "nothing is left over" in kiln.doit("sweep")
        # Somebody made it so by hand: a run's own clear themselves.
        assert Path(f"/sys/block/{devices[0].removeprefix('/dev/')}/loop/backing_file").exists()
    finally:
        subprocess.run(["losetup", "-d", *devices], check=True)


def test_doctor_has_a_line_for_everything(kiln: Kiln) -> None:
    said = kiln.doit("doctor")
    for what in ("mke2fs", "dnf", "mmdebstrap", "root", "loop devices", "overlay filesystem", "free space"):
        assert what in said
    assert "[vsyscall]" in said
