"""The filesystem stage: sparse, reproducible, and a refusal before anything is made."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from sealing import EPOCH, make_context, make_paths, make_volume, run_filesystem

from xenkiln.artifacts.ext import Volume, derive_uuid
from xenkiln.errors import BuildError, HostError
from xenkiln.model.loader import load_image
from xenkiln.stages import filesystem
from xenkiln.system.execution import run_steps, show_step
from xenkiln.system.layout import PROJECT

pytestmark = pytest.mark.usefixtures("quick_starts")
EXTRA = Volume("guest", "data", 100, make_volume().features, 256)
INPUTS = filesystem.Inputs("guest", make_volume(256), (EXTRA,), 128)


def hash_outputs(folder: Path) -> dict[str, str]:
    paths = make_paths(folder)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in filesystem.list_outputs(INPUTS, paths)}


def test_every_disk_is_made_and_sparse(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    context = run_filesystem(paths, INPUTS)
    outputs = filesystem.list_outputs(INPUTS, paths)
    sizes = {path.name: path.stat().st_size >> 20 for path in outputs}
    assert sizes == {"filesystem.img": 256, "swap.img": 128, "data.img": 100}
    assert all(path.stat().st_blocks * 512 < 2 << 20 for path in outputs)
    assert not list(tmp_path.rglob("*.partial"))
    assert context.values["sha256_swap"] == hashlib.sha256((paths.images / "swap.img").read_bytes()).hexdigest()
    assert context.summary == "256 MiB, sparse, 2 other disks"


def test_two_runs_give_the_same_bytes_and_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_filesystem(make_paths(tmp_path / "one"), INPUTS)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    second = run_filesystem(make_paths(tmp_path / "another folder"), INPUTS)
    assert hash_outputs(tmp_path / "one") == hash_outputs(tmp_path / "another folder")
    assert first.identity == second.identity != ""


def test_another_size_or_date_is_another_identity(tmp_path: Path) -> None:
    inputs = [(INPUTS, EPOCH), (replace(INPUTS, root=make_volume(257)), EPOCH), (INPUTS, EPOCH + 1)]
    found = set()
    for number, (each, epoch) in enumerate(inputs):
        found.add(run_filesystem(make_paths(tmp_path / str(number)), each, {"epoch": str(epoch)}).identity)
    assert len(found) == 3


def test_the_swap_area_is_one_that_the_kernel_takes(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    run_filesystem(paths, INPUTS)
    command = ["blkid", "--probe", "--output", "export", str(paths.images / "swap.img")]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert {"TYPE=swap", "VERSION=1", "LABEL=swap", f"UUID={derive_uuid('guest', 'swap')}"} <= set(found)


def test_the_working_filesystem_has_no_journal_and_the_extra_disk_has_one(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    run_filesystem(paths, INPUTS)
    for image, journal in ((paths.layer("filesystem"), False), (paths.images / "data.img", True)):
        header = subprocess.run(["dumpe2fs", "-h", image], check=True, capture_output=True, text=True).stdout
        assert ("has_journal" in header) is journal
        subprocess.run(["e2fsck", "-fn", image], check=True, capture_output=True)


def test_too_small_a_disk_says_which_size_would_do(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    with pytest.raises(BuildError, match="take 300 MiB installed") as caught:
        run_filesystem(paths, INPUTS, {"installed_mib": "300"})
    assert caught.value.place == "guest: disks.root.size_mib"
    advice = caught.value.next_step.split()
    enough = next(int(word) for word in advice if word.isdigit())
    assert not list(tmp_path.rglob("*.img*")), "nothing is made before the check"
    run_filesystem(paths, replace(INPUTS, root=make_volume(enough)), {"installed_mib": "300"})


def test_too_little_space_says_how_much_is_needed(tmp_path: Path) -> None:
    inputs = replace(INPUTS, root=make_volume(16 << 20))
    with pytest.raises(HostError, match=r"MiB are free and building guest takes about \d+"):
        filesystem.require_room(inputs, 10 << 20, tmp_path)


def test_a_host_that_keeps_no_holes_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "full").write_bytes(bytes(65 << 20))
    with pytest.raises(HostError, match="while it is empty"):
        filesystem.require_sparse(tmp_path / "full")


def test_a_plan_shows_every_command_and_file(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    lines = [line for step in filesystem.make_steps(INPUTS, paths) for line in show_step(step)]
    commands = [line.split()[1] for line in lines if line.startswith("$ ")]
    assert commands == ["truncate", "mke2fs", "fallocate", "truncate", "mkswap", "truncate", "mke2fs", "fallocate"]
    assert "# set all times in data.img (debugfs -w) (runs debugfs)" in lines
    assert [line for line in lines if line.startswith("> ")] == [
        f"> {path}" for path in filesystem.list_outputs(INPUTS, paths)
    ]


def test_the_slice_follows_the_sizes_and_nothing_else() -> None:
    loaded = load_image(PROJECT / "recipes/images/debian-12.yaml")
    before = filesystem.slice_recipe(loaded)
    assert before.root.size_mib == loaded.recipe.disks.root.size_mib
    root = loaded.recipe.disks.root
    for change, same in (({"mount_options": "noatime"}, True), ({"size_mib": 2000}, False)):
        disks = loaded.recipe.disks.model_copy(update={"root": root.model_copy(update=change)})
        changed = replace(loaded, recipe=loaded.recipe.model_copy(update={"disks": disks}))
        assert (filesystem.slice_recipe(changed) == before) is same


def test_a_disk_that_would_replace_the_ramdisk_is_refused(tmp_path: Path) -> None:
    inputs = replace(INPUTS, extra=(replace(EXTRA, name="initrd"),))
    (problem,) = filesystem.find_problems(inputs, make_paths(tmp_path))
    assert "ramdisk" in str(problem)
    assert filesystem.find_problems(INPUTS, make_paths(tmp_path)) == []


def test_a_failing_mke2fs_leaves_no_finished_file(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    broken = replace(INPUTS, root=replace(INPUTS.root, features=("no_such_feature",)))
    with pytest.raises(Exception, match="no_such_feature"):
        run_steps(filesystem.make_steps(broken, paths), make_context(paths))
    assert not any(path.exists() for path in filesystem.list_outputs(broken, paths))
