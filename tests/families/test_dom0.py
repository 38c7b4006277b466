"""The lab's dom0: what it refuses, what it writes, and which modules it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xenkiln.errors import BuildError
from xenkiln.families import dom0
from xenkiln.families.contract import describe_guest
from xenkiln.model.image import ImageRecipe
from xenkiln.model.loader import load_image
from xenkiln.system.layout import PROJECT
from xenkiln.system.steps import Write

RECIPE = load_image(PROJECT / "recipes" / "images" / "lab-dom0.yaml").recipe


def change(**sections: dict[str, Any] | str) -> ImageRecipe:
    """The shipped recipe with something changed."""
    data = RECIPE.model_dump()
    for name, value in sections.items():
        data[name] = {**data[name], **value} if isinstance(value, dict) else value
    return ImageRecipe.model_validate(data)


def test_the_shipped_recipe_is_right() -> None:
    assert dom0.find_recipe_problems(RECIPE) == []


@pytest.mark.parametrize(
    ("recipe", "place"),
    [
        (change(release="noble"), ("release",)),
        (change(arch="i386"), ("arch",)),
        (change(packages={"groups": ("base",)}), ("packages",)),
        (change(configure={"fetch_metadata": True}), ("configure", "fetch_metadata")),
        (change(configure={"load_modules": ("loop",)}), ("configure", "load_modules")),
        (change(configure={"timezone": "UTC"}), ("configure", "timezone")),
        (change(disks={"root": {"size_mib": 1024, "grow": True}}), ("disks", "root", "grow")),
    ],
)
def test_what_nothing_would_carry_out_is_refused(recipe: ImageRecipe, place: tuple[str, ...]) -> None:
    assert [where for where, _ in dom0.find_recipe_problems(recipe)] == [place]


def test_its_init_is_the_labs_own() -> None:
    steps = dom0.make_configure_steps(describe_guest(RECIPE), Path("/ROOT"))
    written = {step.path: step for step in steps if isinstance(step, Write)}
    init = written["/sbin/lab-init"]
    assert (init.mode, init.content) == (0o755, (PROJECT / "scripts/host/lab/init").read_text())
    assert "/dev/xvda1" in str(written["/etc/fstab"].content)


class Modprobe:
    """A context whose guest has a modprobe that knows these modules."""

    def __init__(self, listed: str) -> None:
        self.listed = listed
        self.asked: list[tuple[str, ...]] = []

    def read(self, argv: tuple[str, ...], *, root: Path) -> str:
        self.asked.append(argv)
        return self.listed if argv[0] == "modprobe" else ""


def make_modules(root: Path) -> Path:
    folder = root / "lib/modules/6.1/kernel"
    for name in ("fs/ext4/ext4.ko", "net/bridge/bridge.ko", "drivers/gpu/big.ko", "drivers/gpu/sub/more.ko.xz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_only_the_modules_it_loads_are_kept(tmp_path: Path) -> None:
    folder = make_modules(tmp_path)
    context = Modprobe("insmod /lib/modules/6.1/kernel/fs/ext4/ext4.ko \nbuiltin loop\n"
                       "insmod /lib/modules/6.1/kernel/net/bridge/bridge.ko a=b\n")  # fmt: skip
    dom0.keep_modules(tmp_path, context)  # type: ignore[arg-type]  # all that it needs of one
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.ko*")) == [
        "fs/ext4/ext4.ko", "net/bridge/bridge.ko"]  # fmt: skip
    assert not (folder / "drivers").exists()
    assert context.asked[-1] == ("depmod", "6.1")


def test_a_kernel_without_any_of_them_is_refused(tmp_path: Path) -> None:
    make_modules(tmp_path)
    with pytest.raises(BuildError, match="none of the modules that a Xen host needs"):
        dom0.keep_modules(tmp_path, Modprobe("builtin ext4\n"))  # type: ignore[arg-type]
