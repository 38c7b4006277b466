"""Names of disks that the guest's kernel would not use are refused, and those of the article's are not."""

from __future__ import annotations

from types import ModuleType

import pytest

from xenkiln.families import debian, redhat, tiny
from xenkiln.model.image import Disks, ImageRecipe
from xenkiln.model.loader import load_image
from xenkiln.system.layout import PROJECT

EXTRA = {"name": "data", "size_mib": 64, "filesystem": "ext3", "device": "hdc", "mount": "/data"}


def load_recipe(name: str, **changes: object) -> ImageRecipe:
    recipe = load_image(PROJECT / f"recipes/images/{name}.yaml").recipe
    disks = {"root": {"size_mib": 512, "filesystem": "ext3"}, **changes}
    return recipe.model_copy(update={"disks": Disks.model_validate(disks)})


@pytest.mark.parametrize(("family", "name"), [
    (tiny, "tiny"), (debian, "debian-12"), (debian, "ubuntu-10.04"), (debian, "ubuntu-24.04"), (redhat, "centos-7"),
    (redhat, "rocky-9"),
])  # fmt: skip
def test_a_name_of_another_driver_is_refused_with_the_right_one(family: ModuleType, name: str) -> None:
    root = {"size_mib": 512, "filesystem": "ext3", "device": "sda1"}
    recipe = load_recipe(name, root=root, swap={"size_mib": 64, "device": "hdb10"}, extra=(EXTRA,))
    problems = family.find_recipe_problems(recipe)
    assert [place for place, _ in problems] == [
        ("disks", "root", "device"), ("disks", "swap", "device"), ("disks", "extra", 0, "device")]  # fmt: skip
    for (_, fact), right in zip(problems, ("xvda1", "xvdb10", "xvdc"), strict=True):
        assert fact.endswith(f"such as {right}")
    assert family.find_recipe_problems(load_recipe(name, swap={"size_mib": 64, "device": "xvda2"})) == []


def test_release_6_has_the_new_driver_and_release_5_the_old_one() -> None:
    root = {"size_mib": 512, "filesystem": "ext3", "device": "sda1"}
    recipe = load_recipe("centos-7", root=root).model_copy(update={"release": "6.10"})
    assert [place for place, _ in redhat.find_recipe_problems(recipe)] == [("disks", "root", "device")]
    assert redhat.find_recipe_problems(load_recipe("centos-5.2", root=root, extra=(EXTRA,))) == []
