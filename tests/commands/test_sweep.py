"""sweep in a folder of its own: what is in use, what is left, and what is not ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from xenkiln.commands import sweep
from xenkiln.errors import HostError
from xenkiln.system.locks import hold_lock


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build folder as killed runs leave it."""
    build = tmp_path / "build"
    for name in ("cache/lock", "cache/fetching/abc.partial", "cache/packages/abc", "verify/tiny.lock", "verify/tiny.fs",
                 "verify/tiny/elsewhere/build/x", "repositories/tiny.lock", "work/tiny/lock", "work/tiny/tmp/seal/x",
                 "work/tiny/seal.img.partial", "work/tiny/shell-17/root/x", "work/tiny/shell-17.lock",
                 "work/tiny/seal.json", "images/tiny/root.img", "images/tiny/root.img.partial"):  # fmt: skip
        path = build / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    monkeypatch.setenv("XENKILN_BUILD", str(build))
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
        "work/tiny/seal.img.partial", "images/tiny/root.img.partial")}  # fmt: skip
    sweep.run(remove=True)
    assert list_files(build) == STAYS
    capsys.readouterr()
    sweep.run()
    assert capsys.readouterr().out == f"nothing is left over below {build}\n"


@pytest.mark.parametrize(
    ("lock", "spared"),
    [
        ("cache/lock", {"cache/fetching/abc.partial"}),
        ("verify/tiny.lock", {"verify/tiny.fs", "verify/tiny/elsewhere/build/x", "images/tiny/root.img.partial"}),
        ("work/tiny/lock", {"work/tiny/tmp/seal/x", "work/tiny/seal.img.partial", "work/tiny/shell-17/root/x",
                            "work/tiny/shell-17.lock", "images/tiny/root.img.partial"}),
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


@pytest.mark.root
def test_what_is_mounted_is_unmounted_and_never_removed(build: Path, tmp_path: Path) -> None:
    precious, place = tmp_path / "precious", build / "verify/tiny/else where"
    precious.mkdir()
    (precious / "file.partial").write_text("precious")
    place.mkdir()
    subprocess.run(["mount", "--bind", precious, place], check=True)
    try:
        assert build / "verify/tiny/else where" in sweep.list_mounts()
        with pytest.raises(HostError, match="something is mounted here"):
            sweep.remove_scratch(build / "verify/tiny")
        assert all(place not in item.place.parents for item in sweep.find_partials(build))
        sweep.run(remove=True)
        assert place not in sweep.list_mounts()
        assert list_files(build) == STAYS
    finally:
        subprocess.run(["umount", "-q", place], check=False)
    assert (precious / "file.partial").read_text() == "precious"
