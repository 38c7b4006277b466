"""Real builds on hosts that lack something: a clear message, a non-zero exit, nothing left, and then they go on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from cage import DOIT, STRUCK_DOIT, Cage, copy_recipes, open_cage

from xenkiln.pipeline import CHAIN

pytestmark = [pytest.mark.root, pytest.mark.network]

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
NO_LOOP = """
mkdir -p /mnt/dev
mount -t tmpfs tmpfs /mnt/dev
for name in null zero full random urandom tty; do cp -a "/dev/$name" /mnt/dev/; done
mount -n --move /mnt/dev /dev
exec "$@"
"""
WAIT_SECONDS = 60


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    return copy_recipes(tmp_path / "recipes", "tiny", "other")


@pytest.fixture
def cage(tmp_path: Path) -> Iterator[Cage]:
    outside = tmp_path / "build"
    outside.mkdir()
    with open_cage(outside) as cage:
        yield cage


def fail(cage: Cage, argv: Sequence[str], recipes: Path) -> str:
    """What a command says that must fail, in words and not with a traceback."""
    code, output = cage.run(argv, recipes)
    assert code not in (0, -signal.SIGKILL), output
    assert "Traceback" not in output
    cage.check_nothing_is_left()
    return output


def succeed(cage: Cage, argv: Sequence[str], recipes: Path) -> str:
    code, output = cage.run(argv, recipes)
    assert code == 0, output
    cage.check_nothing_is_left()
    return output


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def read_state(process: subprocess.Popen[str]) -> str:
    """T for stopped, Z for ended: proc(5)."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def list_records(cage: Cage, name: str = "tiny") -> list[str]:
    work = cage.process_root / cage.inside.relative_to("/") / "work" / name
    return [stage for stage in CHAIN if (work / f"{stage}.json").exists()]


@contextmanager
def leave_free(cage: Cage, recipes: Path, size_mib: int) -> Iterator[None]:
    """Fill the build's disk with something else."""
    script = 'fallocate -l "$(($(stat -f -c %a "$1") * 4096 - $2 * 1048576))" "$1/filler"'
    code, output = cage.run(["sh", "-ec", script, "sh", str(cage.inside), str(size_mib)], recipes)
    assert code == 0, output
    yield
    succeed(cage, ["rm", str(cage.inside / "filler")], recipes)


def test_a_full_disk_is_named_and_making_room_is_enough(cage: Cage, recipes: Path) -> None:
    succeed(cage, ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(cage.inside)], recipes)
    assert "free some space" in fail(cage, [*DOIT, "build"], recipes)
    succeed(cage, ["mount", "-o", "remount,size=400m", str(cage.inside)], recipes)
    succeed(cage, [*DOIT, "packages:tiny"], recipes)
    with leave_free(cage, recipes, 60):
        assert "MiB are free and building tiny takes about" in fail(cage, [*DOIT, "build"], recipes)
    assert "packages:tiny" not in succeed(cage, [*DOIT, "build"], recipes)


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_writes_that_are_lost_after_the_installer_ended_are_noticed(cage: Cage, recipes: Path, kind: str) -> None:
    disk = cage.inside.with_name("disk.img")
    succeed(cage, ["truncate", "--size=400M", str(disk)], recipes)
    succeed(cage, ["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-m", "0", str(disk)], recipes)
    options = ["-o", "size=400m", "tmpfs"] if kind == "tmpfs" else ["-o", "loop", str(disk)]
    succeed(cage, ["mount", "-n", "-t", kind, *options, str(cage.inside)], recipes)
    succeed(cage, [*DOIT, "build"], recipes)
    log = (cage.process_root / cage.inside.relative_to("/") / "images/tiny/logs/bootstrap.log").read_text()
    steps = [line for line in log.splitlines() if line.startswith("== ")]
    installing = 1 + next(number for number, step in enumerate(steps) if step.startswith("== install "))
    succeed(cage, ["rm", str(cage.inside / "work/tiny/bootstrap.json")], recipes)
    with cage.start([*STRUCK_DOIT, "bootstrap", str(installing), "before", "SIGSTOP", "build"], recipes) as run:
        wait_until(lambda: read_state(run) in "TZ")
        with leave_free(cage, recipes, 10):
            run.send_signal(signal.SIGCONT)
            output, _ = run.communicate()
    assert "bootstrap:tiny failed" in output
    assert "bootstrap.img.partial: what was written could not be stored" in output
    assert "bootstrap" not in list_records(cage)
    assert "filesystem:tiny" not in succeed(cage, [*DOIT, "build"], recipes)


@pytest.mark.parametrize("stage", ["repository", "bootstrap", "seal"])
def test_a_second_build_is_refused_and_the_first_goes_on(cage: Cage, recipes: Path, stage: str) -> None:
    with cage.start([*STRUCK_DOIT, stage, "2", "before", "SIGSTOP", "build"], recipes) as first:
        try:
            status = Path(f"/proc/{first.pid}/stat")
            wait_until(lambda: status.read_text().rpartition(")")[2].split()[0] == "T")
            code, output = cage.run([*DOIT, "build"], recipes)
        finally:
            first.send_signal(signal.SIGCONT)
        assert code != 0
        assert f"the build of tiny is in use by process {first.pid} (doit build)" in output
        said, _ = first.communicate()
    assert first.returncode == 0, said
    cage.check_nothing_is_left()


def test_two_images_at_once_and_their_workers_die_with_the_run(cage: Cage, recipes: Path) -> None:
    words = [*DOIT, "-n", "2", "build:tiny", "build:other"]
    log = cage.outside / "images" / "other" / "logs" / "repository.log"
    with cage.start(words, recipes) as run:
        wait_until(lambda: log.exists() and "$ rpmbuild" in log.read_text())
        run.kill()
        run.communicate()
    cage.check_nothing_is_left()
    # How far each of the two had come is chance.
    finished = {f"{stage}:{name}" for name in ("tiny", "other") for stage in list_records(cage, name)}
    output = succeed(cage, words, recipes)
    stages = {f"{stage}:{name}" for stage in CHAIN for name in ("tiny", "other")}
    assert stages & set(output.split()) == stages - finished
    assert "seal:other" not in finished
    first, second = (cage.outside / "images" / name for name in ("tiny", "other"))
    assert (first / "packages.json").read_bytes() == (second / "packages.json").read_bytes()


def test_a_worker_that_is_killed_ends_the_run_and_is_named(cage: Cage, recipes: Path) -> None:
    words = [*DOIT, "-n", "2", "build:tiny", "build:other"]
    logs = [cage.outside / "images" / name / "logs" / "repository.log" for name in ("tiny", "other")]
    with cage.start(words, recipes) as run:
        wait_until(lambda: all(log.exists() and "\n$ " in log.read_text() for log in logs))
        workers = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        os.kill(int(workers[0]), signal.SIGKILL)
        output, _ = run.communicate()
    assert run.returncode == 2, output
    assert re.search(r"^\w+:(tiny|other): the process that did this was killed by SIGKILL", output, re.MULTILINE)
    assert "Traceback" not in output
    cage.check_nothing_is_left()
    succeed(cage, words, recipes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_a_terminals_signal_to_all_workers_is_told_in_one_line(
    cage: Cage, recipes: Path, number: signal.Signals
) -> None:
    log = cage.outside / "images" / "other" / "logs" / "repository.log"
    with cage.start([*DOIT, "-n", "2", "build:tiny", "build:other"], recipes) as run:
        wait_until(lambda: log.exists() and log.read_text().count("\n$ ") > 2)
        os.killpg(run.pid, number)
        output, _ = run.communicate()
    cage.check_nothing_is_left()
    # A stage that was finished by then has said so.
    *_, said = re.split(r"^\w+:tiny +[\d.]+ s  .+\n", output, flags=re.MULTILINE)
    assert said == f"\ninterrupted by {number.name}; the next run goes on from the last finished step\n"


def test_without_loop_devices_nothing_is_begun(cage: Cage, recipes: Path) -> None:
    output = fail(cage, ["unshare", "--mount", "sh", "-ec", NO_LOOP, "sh", *DOIT, "build"], recipes)
    assert "no loop devices" in output
    assert "modprobe loop" in output
    assert list_records(cage) == []


def test_a_mount_that_fails_is_explained_and_leaves_nothing(cage: Cage, recipes: Path, tmp_path: Path) -> None:
    succeed(cage, [*DOIT, "filesystem:tiny"], recipes)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "mount").write_text(
        f'#!/bin/sh\ncase "$*" in *loop*) echo "mount: failed to setup loop device" >&2; exit 32;; esac\n'
        f'exec {shutil.which("mount")} "$@"\n'
    )
    (tools / "mount").chmod(0o755)
    output = fail(cage, ["env", f"PATH={tools}:/usr/sbin:/usr/bin:/sbin:/bin", *DOIT, "build"], recipes)
    assert "no free loop device" in output
    succeed(cage, [*DOIT, "build"], recipes)


def test_without_root_everything_is_said_at_once_and_the_lists_work(cage: Cage) -> None:
    recipe = copy_recipes(cage.outside / "recipes", "tiny", "other") / "tiny.yaml"
    recipe.write_text(recipe.read_text().replace('{hash: "!"}', "{environment: NO_SUCH_SECRET}"))
    recipes = cage.inside / "recipes"
    output = fail(cage, [*NOBODY, *DOIT, "build"], recipes)
    assert "needs root" in output
    assert "NO_SUCH_SECRET" in output
    assert "build:tiny" in succeed(cage, [*NOBODY, *DOIT, "list", "--all"], recipes)
    assert "install" in succeed(cage, [*NOBODY, *DOIT, "plan:other"], recipes)
