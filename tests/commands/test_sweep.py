"""sweep in a folder of its own: what is in use, what is left, and what is not ours."""

from __future__ import annotations

import errno
import re
import subprocess
from pathlib import Path

import pytest

from xenkiln.commands import sweep
from xenkiln.errors import HostError
from xenkiln.system.files import remove_path
from xenkiln.system.locks import hold_lock
from xenkiln.system.mount_table import list_loop_devices, list_mounts
from xenkiln.system.mounts import enter_namespace


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build folder as killed runs leave it."""
    build = tmp_path / "build"
    for name in ("cache/lock", "cache/fetching/abc.partial", "cache/packages/abc", "verify/tiny.lock", "verify/tiny.fs",
                 "verify/tiny/elsewhere/build/x", "repositories/tiny.lock", "work/tiny/lock", "work/tiny/tmp/seal/x",
                 "work/tiny/tmp/lock/x",
                 "work/tiny/seal.img.partial", "work/tiny/shell-17/root/x", "work/tiny/shell-17.lock",
                 "work/tiny/seal.json", "images/tiny/root.img", "images/tiny/root.img.partial"):  # fmt: skip
        path = build / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    monkeypatch.setenv("XENKILN_BUILD", str(build))
    monkeypatch.delenv("XENKILN_CACHE", raising=False)
    return build


def list_files(build: Path) -> set[str]:
    return {str(path.relative_to(build)) for path in build.rglob("*") if not path.is_dir()}


STAYS = {"cache/lock", "cache/packages/abc", "verify/tiny.lock", "repositories/tiny.lock", "work/tiny/lock",
         "work/tiny/seal.json", "images/tiny/root.img"}  # fmt: skip


def test_everything_of_killed_runs_goes_when_asked(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = list_files(build)
    sweep.run()
    assert list_files(build) == before
    listed = {line.partition(": ")[2] for line in capsys.readouterr().out.splitlines() if ": /" in line}
    assert listed == {str(build / name) for name in (
        "cache/fetching", "verify/tiny", "verify/tiny.fs", "work/tiny/shell-17", "work/tiny/tmp/seal",
        "work/tiny/tmp/lock",
        "work/tiny/seal.img.partial", "images/tiny/root.img.partial")}  # fmt: skip
    sweep.run(remove=True)
    assert list_files(build) == STAYS
    capsys.readouterr()
    sweep.run()
    assert capsys.readouterr().out == f"nothing is left over below {build}\n"


@pytest.mark.parametrize(
    ("lock", "spared"),
    [
        ("cache/lock", {"cache/fetching/abc.partial", "work/tiny/tmp/lock/x"}),
        ("verify/tiny.lock", {"verify/tiny.fs", "verify/tiny/elsewhere/build/x", "images/tiny/root.img.partial"}),
        ("work/tiny/lock", {"work/tiny/tmp/seal/x", "work/tiny/tmp/lock/x", "work/tiny/seal.img.partial",
                            "work/tiny/shell-17/root/x", "work/tiny/shell-17.lock", "images/tiny/root.img.partial"}),
        ("work/tiny/shell-17.lock", {"work/tiny/shell-17/root/x", "work/tiny/shell-17.lock",
                                     "images/tiny/root.img.partial"}),
        ("repositories/tiny.lock", set()),
    ],
)  # fmt: skip
def test_what_is_in_use_stays(build: Path, lock: str, spared: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    with hold_lock(build / lock, "a test"):
        sweep.run(remove=True)
    assert list_files(build) == STAYS | spared
    assert "passed over, it is in use: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lock", "growing"),
    [("bundles/tiny/root.lock", "bundles/tiny/root.partial/x"), ("lab/dom0.lock", "lab/dom0/abc.partial/xen")],
)
def test_what_grows_in_a_folder_goes_once_nobody_holds_its_lock(build: Path, lock: str, growing: str) -> None:
    (build / growing).parent.mkdir(parents=True)
    (build / growing).write_text("")
    with hold_lock(build / lock, "a test"):
        sweep.run(remove=True)
        assert (build / growing).exists()
    sweep.run(remove=True)
    assert not (build / growing).parent.exists()


@pytest.mark.parametrize(
    ("lock", "growing"),
    [
        ("clouds/lab/tiny/lock", "clouds/lab/tiny/registered.json.partial"),
        ("lab/cloud/4.4/cloud.lock", "lab/cloud/4.4/instances/i-1/status.json.partial"),
    ],
)
def test_what_grows_at_a_cloud_goes_once_nobody_works_there(build: Path, lock: str, growing: str) -> None:
    (build / growing).parent.mkdir(parents=True)
    (build / growing).write_text("")
    with hold_lock(build / lock, "a test"):
        sweep.run(remove=True)
        assert (build / growing).exists()
    sweep.run(remove=True)
    assert not (build / growing).exists()


def test_a_cache_that_lies_elsewhere_has_its_lock_there(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENKILN_CACHE", str(tmp_path / "cache"))
    with hold_lock(tmp_path / "cache/lock", "a test"):
        sweep.run(remove=True)
    assert list_files(build) == STAYS | {"work/tiny/tmp/lock/x"}


def test_what_cannot_be_removed_is_said_and_the_rest_goes(
    build: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        if path.name == "seal":
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        remove_path(path)

    monkeypatch.setattr(sweep, "remove_path", refuse)
    with pytest.raises(HostError, match="1 of 8 could not be removed"):
        sweep.run(remove=True)
    assert f"not removed: scratch folder: {build}/work/tiny/tmp/seal\n" in capsys.readouterr().out
    assert list_files(build) == STAYS | {"work/tiny/tmp/seal/x"}


def test_nothing_begins_while_things_are_removed(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def try_to_begin(path: Path) -> None:
        with pytest.raises(HostError, match="in use"), hold_lock(build / "work/tiny/lock", "the build"):
            pass
        tried.append(path)

    monkeypatch.setattr(sweep, "remove_scratch", try_to_begin)
    sweep.run(remove=True)
    assert tried


def test_no_link_leads_out_of_the_build_folder(build: Path, tmp_path: Path) -> None:
    for name in ("tiny.fs", "shell-1/x", "x.partial", "lock"):
        path = tmp_path / "precious" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("precious")
    precious = tmp_path / "precious"
    (build / "work/other").symlink_to(precious)
    (build / "work/tiny/shell-18").symlink_to(precious)
    (build / "work/tiny/shell-19").mkdir()
    (build / "work/tiny/shell-19/link").symlink_to(precious)
    (build / "verify").rename(tmp_path / "verify")
    (build / "verify").symlink_to(tmp_path / "verify")
    sweep.run(remove=True)
    assert list_files(precious) == {"tiny.fs", "shell-1/x", "x.partial", "lock"}
    assert (tmp_path / "verify/tiny.fs").exists()
    assert not (build / "work/tiny/shell-18").is_symlink()


def test_a_build_folder_behind_a_link_is_swept(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(build)
    monkeypatch.setenv("XENKILN_BUILD", str(tmp_path / "link"))
    sweep.run(remove=True)
    assert list_files(build) == STAYS


@pytest.fixture
def own_mounts() -> None:
    """Mounts of this process alone."""
    enter_namespace()


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


def mounted_below(build: Path) -> set[str]:
    return {str(mount.place.relative_to(build)) for mount in list_mounts() if build in mount.place.parents}


def make_image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mke2fs", "-q", "-F", path, "4M"], check=True)
    return path


@pytest.mark.root
@pytest.mark.usefixtures("own_mounts")
def test_what_a_user_mounts_stays_and_the_rest_goes(
    build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precious, strange = tmp_path / "precious", make_image(tmp_path / "strange.img")
    precious.mkdir()
    (precious / "file.partial").write_text("precious")
    places = [build / name for name in ("verify/tiny/else where", "work/other/root", "work/other/top", "cache/mine",
                                        "work/other/bootstrap", "work/tiny/mine")]  # fmt: skip
    for place in places:
        place.mkdir(parents=True)
    bound, root, top, cache, bootstrap, mine = places
    mount("--bind", precious, bound)
    mount("--bind", precious, root)
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", mine)
    (mine / "sub").mkdir()
    (mine / "x.partial").touch()
    mount("--bind", mine / "sub", top)
    mount("--bind", precious, cache)
    mount("-o", "loop", strange, bootstrap)
    try:
        before = mounted_below(build)
        with pytest.raises(HostError, match="1 of 8 could not be removed") as caught:
            sweep.run(remove=True)
        assert caught.value.next_step
        said = capsys.readouterr().out
        assert f"not removed: an unfinished verification: {build / 'verify/tiny'}\n  {bound}: something is" in said
        assert mounted_below(build) == before
        stays = STAYS | {f"{place.relative_to(build)}/file.partial" for place in (bound, root, cache)}
        assert list_files(build) == stays | {"verify/tiny/elsewhere/build/x", "work/tiny/mine/x.partial"}
    finally:
        for place in (*places[:3], cache, bootstrap, mine):
            subprocess.run(["umount", place], check=True)
    assert (precious / "file.partial").read_text() == "precious"


@pytest.mark.root
@pytest.mark.usefixtures("own_mounts")
def test_what_a_run_mounts_goes_innermost_first(build: Path) -> None:
    """As where a run's own namespace was entered by hand."""
    work, image = build / "work/tiny", make_image(build / "work/tiny/bootstrap.img")
    for name in ("bootstrap", "top", "root", "shell-17/image"):
        (work / name).mkdir(parents=True, exist_ok=True)
    mount("-o", "loop,ro", image, work / "bootstrap")
    mount("-t", "tmpfs", "tmpfs", work / "top")
    (work / "top/upper").mkdir()
    (work / "top/work").mkdir()
    mount("-t", "overlay", "-o", f"lowerdir={work}/bootstrap,upperdir={work}/top/upper,workdir={work}/top/work",
          "overlay", work / "root")  # fmt: skip
    for name, kind in (("proc", "proc"), ("sys", "sysfs"), ("dev", "tmpfs")):
        (work / "root" / name).mkdir()
        mount("-t", kind, kind, work / "root" / name)
    mount("--bind", "-o", "ro", work / "root/proc/sys", work / "root/proc/sys")
    mount("-o", "loop,ro", image, work / "shell-17/image")
    sweep.run(remove=True)
    assert mounted_below(build) == set()
    assert list_files(build) == STAYS | {"work/tiny/bootstrap.img"}


@pytest.mark.root
@pytest.mark.usefixtures("own_mounts")
def test_a_mount_that_is_held_is_said_and_the_others_go(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("work/tiny/top", "work/tiny/shell-17/top"):
        (build / name).mkdir(parents=True)
        mount("-t", "tmpfs", "tmpfs", build / name)
    with (build / "work/tiny/top/held").open("w"):
        with pytest.raises(HostError, match="1 of 10 could not be removed"):
            sweep.run(remove=True)
        assert mounted_below(build) == {"work/tiny/top"}
    said = capsys.readouterr().out
    assert re.search(rf"not removed: mount: {build}/work/tiny/top\n.*held by py\w+ \(\d+\)\n  next: end that", said)
    sweep.run(remove=True)
    assert mounted_below(build) == set()


@pytest.mark.root
def test_no_loop_device_is_detached(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = make_image(build / "images/tiny/root.img")
    attach = subprocess.run(["losetup", "--find", "--show", "--read-only", image], check=True, capture_output=True)
    device = attach.stdout.decode().strip()
    try:
        sweep.run(remove=True)
        assert list_loop_devices()[device] == image
        assert f"left alone, a run's own go by themselves: loop device {device}: {image} (" in capsys.readouterr().out
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
