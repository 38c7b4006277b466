"""The seal stage where no root is needed: its plan, its slice, its checks beforehand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from gpg_agents import ended_agent
from sealing import make_inputs, make_paths, make_volume

from xenkiln.artifacts.checksums import format_checksums
from xenkiln.model.configure import FileEntry, Mount, User
from xenkiln.model.image import ExtraDisk
from xenkiln.model.loader import LoadedImage, load_image
from xenkiln.stages import seal
from xenkiln.system.execution import show_step
from xenkiln.system.layout import PROJECT
from xenkiln.system.steps import Finish, list_tools, needs_root


@pytest.fixture
def debian() -> LoadedImage:
    return load_image(PROJECT / "recipes/images/debian-12.yaml")


def change(loaded: LoadedImage, section: str, **values: object) -> LoadedImage:
    changed = getattr(loaded.recipe, section).model_copy(update=values)
    return replace(loaded, recipe=loaded.recipe.model_copy(update={section: changed}))


def list_commands(inputs: seal.Inputs, folder: Path) -> list[str]:
    lines = [line for step in seal.make_steps(inputs, make_paths(folder)) for line in show_step(step)]
    return [line.split()[1] for line in lines if line.startswith("$ ")]


def test_a_plan_shows_every_command(tmp_path: Path) -> None:
    assert list_commands(make_inputs(), tmp_path) == ["truncate", "mke2fs", "fallocate", "e2fsck"]
    everything = make_inputs(shapes=("disk", "qcow2", "vhd"), signing_key="me@example.org", menu_arguments="root=x")
    assert list_commands(everything, tmp_path) == [
        "truncate", "mke2fs", "fallocate", "e2fsck", "dd", "qemu-img", "qemu-img", "gpg",
    ]  # fmt: skip


@pytest.mark.parametrize("shapes", [(), ("disk",), ("qcow2", "vhd")])
@pytest.mark.parametrize("key", [None, "me@example.org"])
def test_every_output_is_finished_once_and_last(tmp_path: Path, shapes: tuple[str, ...], key: str | None) -> None:
    paths, inputs = make_paths(tmp_path), make_inputs(shapes=shapes, signing_key=key)
    steps = seal.make_steps(inputs, paths)
    outputs = seal.list_outputs(inputs, paths)
    assert [step.path for step in steps[-len(outputs) :] if isinstance(step, Finish)] == outputs
    assert sum(isinstance(step, Finish) for step in steps) == len(outputs)


def test_its_needs_are_known_beforehand(tmp_path: Path) -> None:
    steps = seal.make_steps(make_inputs(), make_paths(tmp_path))
    assert needs_root(steps)
    assert list_tools(steps) == {"truncate", "mke2fs", "fallocate", "debugfs", "e2fsck", "mount", "umount"}


def test_the_memory_of_the_guest_does_not_seal_again(debian: LoadedImage) -> None:
    before = seal.slice_recipe(debian)
    assert seal.slice_recipe(change(debian, "domain", memory_mib=1024, vcpus=4)) == before
    in_image = change(debian, "kernel", in_image=True)
    assert seal.slice_recipe(change(in_image, "domain", memory_mib=1024)) == seal.slice_recipe(in_image) != before


def test_what_the_recipe_names_is_kept(debian: LoadedImage) -> None:
    changed = change(debian, "configure", files=(FileEntry(path="/var/log/app/keep", content="x"),),
                     users=(User(name="anna", uid=1000), User(name="log", uid=1001, home="/var/log/log")),
                     mounts=(Mount(what="tmpfs", where="/tmp", type="tmpfs"),
                             Mount(what="x", where="none", type="swap")))  # fmt: skip
    disk = ExtraDisk(name="data", size_mib=64, device="xvdb", mount="/var/cache/data")
    kept = seal.slice_recipe(change(changed, "disks", extra=(disk,))).kept
    assert kept == ("/home/anna", "/tmp", "/var/cache/data", "/var/log/app/keep", "/var/log/log")


def test_files_of_an_earlier_recipe_are_removed_and_no_others(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    images, outside = paths.images, tmp_path / "outside.img"
    for name in ("root.img", "vmlinuz", "data.img", "swap.img", "disk.img", "disk.qcow2", "SHA256SUMS.asc",
                 "notes.txt", "my.img"):  # fmt: skip
        (images / name).write_text(name)
    outside.write_text("precious")
    listed = dict.fromkeys(("root.img", "vmlinuz", "data.img", "disk.img", f"../../{outside.name}"), "0" * 64)
    (images / seal.SUMS).write_text(format_checksums(listed))
    seal.remove_stale(make_inputs(shapes=("disk",), other_disks=("swap.img",)), paths)
    left = {path.name for path in images.iterdir()}
    assert left == {"root.img", "vmlinuz", "swap.img", "disk.img", "notes.txt", "my.img", seal.SUMS}
    assert outside.exists()
    (images / seal.SUMS).write_bytes(b"\xff torn")
    seal.remove_stale(make_inputs(), paths)
    assert not (images / "swap.img").exists()


def test_the_menu_says_what_the_domain_does(debian: LoadedImage) -> None:
    in_image = change(debian, "kernel", in_image=True)
    assert seal.slice_recipe(debian).menu_arguments is None
    assert seal.slice_recipe(in_image).menu_arguments == "root=/dev/xvda1 ro console=hvc0"
    quiet = change(in_image, "domain", extra="quiet", root="LABEL=x rw")
    assert seal.slice_recipe(quiet).menu_arguments == "root=LABEL=x rw console=hvc0 quiet"
    pygrub = change(in_image, "domain", extra="quiet", boot="pygrub")
    assert seal.slice_recipe(pygrub).menu_arguments == "root=/dev/xvda1 ro console=hvc0", "Xen adds the rest"


def test_a_missing_key_and_a_disk_too_large_are_found_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNUPGHOME", str(tmp_path))
    inputs = make_inputs(make_volume(3 << 20), shapes=("vhd",), signing_key="nobody@example.org")
    with ended_agent(tmp_path):
        problems = seal.find_problems(inputs, make_paths(tmp_path / "build"))
    assert [problem.fact.split()[0] for problem in problems] == ["there", "a"]
    assert "no secret key nobody@example.org" in str(problems[0])
    assert "2 TiB" in str(problems[1])
    assert seal.find_problems(make_inputs(), make_paths(tmp_path / "build")) == []


def test_distributions_have_the_names_that_package_urls_use() -> None:
    assert seal.name_distribution(make_inputs()) == "debian"
    assert seal.name_distribution(make_inputs(release="lucid")) == "ubuntu"
    assert seal.name_distribution(make_inputs(family="redhat", release="5.2")) == ""
