"""Loop devices and mounts: seen by nobody else, and gone when we are, whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from xenkiln.errors import BuildError, CommandError, HostError
from xenkiln.system import mounts
from xenkiln.system.commands import Runner
from xenkiln.system.execution import Context, open_mount
from xenkiln.system.guest_root import GUEST_FOLDERS, enter_root
from xenkiln.system.layout import PROJECT, Paths
from xenkiln.system.mounts import (
    find_holders,
    find_loop_problem,
    list_loops,
    mount_image,
    mount_overlay,
    mount_plain,
    require_plain_names,
    wait_for_release,
)
from xenkiln.system.steps import Mount

root = pytest.mark.root


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path / "stage.log")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.img"
    with path.open("wb") as stream:
        stream.truncate(16 << 20)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", path], check=True)
    return path


def read_mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert [line for line in read_mounts() if str(tmp_path) in line] == []
    assert [name for path in tmp_path.rglob("*.img") for name in list_loops(path)] == []


@root
def test_an_image_is_mounted_and_released(runner: Runner, image: Path, tmp_path: Path) -> None:
    where = tmp_path / "deep" / "where"
    with mount_image(runner, image, where, read_only=False, options="discard"):
        (where / "file").write_text("kept")
        assert len(list_loops(image)) == 1
    assert list_loops(image) == []
    with mount_image(runner, image, where, read_only=True):
        assert (where / "file").read_text() == "kept"
        with pytest.raises(OSError, match="Read-only"):
            (where / "other").write_text("")


@root
def test_the_host_sees_none_of_it(runner: Runner, image: Path, tmp_path: Path) -> None:
    where = tmp_path / "where"
    with mount_image(runner, image, where, read_only=True):
        seen = Path(f"/proc/{os.getppid()}/mountinfo").read_text()
        assert os.readlink("/proc/self/ns/mnt") != os.readlink(f"/proc/{os.getppid()}/ns/mnt")  # noqa: PTH115
    assert str(where) not in seen


@root
def test_a_namespace_is_entered_once_and_by_a_forked_worker_again(runner: Runner, tmp_path: Path) -> None:
    mounts.enter_namespace()
    before = Path("/proc/self/ns/mnt").readlink()
    mounts.enter_namespace()
    assert Path("/proc/self/ns/mnt").readlink() == before
    worker = os.fork()
    if not worker:
        mounts.enter_namespace()
        os._exit(Path("/proc/self/ns/mnt").readlink() == before)
    assert os.waitpid(worker, 0)[1] == 0


@root
def test_two_images_at_once(runner: Runner, image: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.img"
    other.write_bytes(image.read_bytes())
    with ExitStack() as stack:
        for number, path in enumerate((image, other)):
            stack.enter_context(mount_image(runner, path, tmp_path / f"where{number}", read_only=False))
        assert len({*list_loops(image), *list_loops(other)}) == 2


@root
def test_one_image_can_be_read_twice_but_not_written_meanwhile(
    runner: Runner, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "RELEASE_SECONDS", 0.2)
    with mount_image(runner, image, tmp_path / "one", read_only=True):
        with mount_image(runner, image, tmp_path / "two", read_only=True):
            pass
        with (
            pytest.raises(HostError, match=rf"/dev/loop\d+ still holds {image}"),
            mount_image(runner, image, tmp_path / "three", read_only=False),
        ):
            pass


@root
def test_what_is_not_a_filesystem_leaves_nothing(runner: Runner, tmp_path: Path) -> None:
    image = tmp_path / "image.img"
    image.write_bytes(bytes(1 << 20))
    with (
        pytest.raises(CommandError, match="wrong fs type"),
        mount_image(runner, image, tmp_path / "where", read_only=True),
    ):
        pass
    wait_for_release(runner, image)


@root
def test_a_mount_point_that_cannot_be_made_leaves_nothing(runner: Runner, image: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError), mount_image(runner, image, tmp_path / "file" / "where", read_only=True):
        pass
    assert list_loops(image) == []


@root
def test_an_error_while_mounted_releases_all_in_reverse(runner: Runner, image: Path, tmp_path: Path) -> None:
    where = tmp_path / "where"
    with (
        pytest.raises(ZeroDivisionError),
        mount_image(runner, image, where, read_only=False),
        mount_plain(runner, "tmpfs", where / "inner", "mode=0755"),
    ):
        raise ZeroDivisionError
    assert runner.log is not None
    ends = [line for line in runner.log.read_text().splitlines() if line.startswith("$ umount")]
    assert ends == [f"$ umount {where}/inner", f"$ umount {where}"]


@root
def test_who_holds_a_mount_is_named(
    runner: Runner, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "RELEASE_SECONDS", 0.2)
    where = tmp_path / "where"
    with ExitStack() as stack:
        stack.enter_context(mount_image(runner, image, where, read_only=True))
        with subprocess.Popen(["sleep", "60"], cwd=where) as holder:
            try:
                (tmp_path / "where2").mkdir()
                assert find_holders(where) == [f"sleep ({holder.pid})"]
                assert find_holders(tmp_path / "where2") == []
                with pytest.raises(
                    HostError, match=rf"{where} cannot be unmounted, it is held by sleep \({holder.pid}"
                ):
                    mounts._unmount(runner, where)
            finally:
                holder.kill()


@root
def test_a_program_that_is_just_closing_is_waited_for(runner: Runner, image: Path, tmp_path: Path) -> None:
    where = tmp_path / "where"
    with mount_image(runner, image, where, read_only=True):
        holder = subprocess.Popen(["sleep", "60"], cwd=where)
        timer = threading.Timer(0.3, holder.kill)
        timer.start()
    timer.join()
    holder.wait()


@root
def test_an_overlay_keeps_its_lower_layers_as_they_are(runner: Runner, image: Path, tmp_path: Path) -> None:
    base, upper, merged = tmp_path / "base", tmp_path / "upper", tmp_path / "merged"
    with mount_image(runner, image, base, read_only=False):
        (base / "file").write_text("below")
    with ExitStack() as stack:
        stack.enter_context(mount_image(runner, image, base, read_only=True))
        for name in ("upper", "work"):
            (upper / name).mkdir(parents=True)
        stack.enter_context(mount_overlay(runner, [base], upper, merged))
        (merged / "file").write_text("above")
        assert (base / "file").read_text() == "below"
    assert (upper / "upper" / "file").read_text() == "above"


def test_a_name_that_an_overlays_options_cannot_hold_is_refused() -> None:
    require_plain_names([Path("/with space/and-ü")])
    for name in ("/a:b", "/a,b", "/a\\b", '/a"b'):
        with pytest.raises(HostError, match="XENKILN_BUILD"):
            require_plain_names([Path("/plain"), Path(name)])


def test_a_host_without_loop_devices_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "LOOP_CONTROL", tmp_path / "loop-control")
    assert "modprobe loop" in str(find_loop_problem())
    (tmp_path / "loop-control").touch()
    assert find_loop_problem() is None


@root
@pytest.mark.parametrize("link", ["/etc", "../outside", "dangling"])
@pytest.mark.parametrize("name", GUEST_FOLDERS)
def test_a_tree_whose_top_folders_lead_out_is_not_entered(runner: Runner, tmp_path: Path, name: str, link: str) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    tree.mkdir()
    outside.mkdir()
    (tree / name).symlink_to(link)
    with pytest.raises(BuildError, match=f"/{name}: must be a folder"), open_mount(Mount("guest", tree), runner):
        pass
    assert list(outside.iterdir()) == []
    assert not (tree / "dangling").exists()


@root
def test_a_guest_has_proc_devices_and_no_network(runner: Runner, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with ExitStack() as stack:
        for name in ("usr", "bin", "lib", "lib64"):
            stack.enter_context(mounts.bind_folder(runner, Path("/", name).resolve(), tree / name))
        stack.enter_context(open_mount(Mount("guest", tree), runner))
        context = Context(Paths("x", tmp_path, tmp_path), runner, lambda _: None)
        script = "set -- $(tail -n 1 /proc/net/dev); echo $$ $1 $HOME ${TMPDIR:-unset}; cat /proc/1/comm; ls /dev/pts"
        output = context.read(["sh", "-c", script], root=tree)
        assert output.splitlines() == ["1 lo: /root unset", "sh", "ptmx"]
        assert sorted(item.name for item in tree.iterdir()) == [
            "bin",
            "dev",
            "lib",
            "lib64",
            "proc",
            "run",
            "sys",
            "usr",
        ]
        with pytest.raises(CommandError, match="exit code 1"):
            runner.run(enter_root(tree, ["sh", "-c", "touch /sys/x"]))


KILLED = """
import os, sys
from pathlib import Path
from xenkiln.system.commands import Runner
from xenkiln.system.mounts import mount_image
with mount_image(Runner(), Path(sys.argv[1]), Path(sys.argv[2]), read_only=False):
    print("mounted", flush=True)
    sys.stdin.read()
"""


@root
def test_a_sigkill_takes_mount_and_loop_device_with_it(runner: Runner, image: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", KILLED, str(image), str(tmp_path / "where")]
    with subprocess.Popen(words, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"mounted\n"
        assert list_loops(image)
        process.kill()
    deadline = time.monotonic() + 10
    while list_loops(image):
        assert time.monotonic() < deadline
        time.sleep(0.01)
