"""What only Debian has a use for is refused elsewhere, and its defaults are not."""

from __future__ import annotations

from types import ModuleType

import pytest

from xenkiln.families import redhat, tiny
from xenkiln.families.debian_settings import DEBIAN_ONLY
from xenkiln.model.image import ImageRecipe
from xenkiln.model.loader import load_image
from xenkiln.system.layout import PROJECT

RECIPES = [(tiny, "tiny"), (redhat, "centos-7"), (redhat, "centos-5.2")]
SETTINGS = {"mirrors": ("http://mirror.test/debian",), "suites": ("bookworm",), "components": ("main", "contrib"),
            "variant": "apt", "keyring": "keys.gpg"}  # fmt: skip


def load_recipe(name: str, **packages: object) -> ImageRecipe:
    recipe = load_image(PROJECT / f"recipes/images/{name}.yaml").recipe
    return recipe.model_copy(update={"packages": recipe.packages.model_copy(update=packages)})


def test_every_setting_is_tried() -> None:
    assert set(SETTINGS) == set(DEBIAN_ONLY)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(("family", "name"), RECIPES)
def test_a_setting_without_use_is_refused(family: ModuleType, name: str, setting: str) -> None:
    ((place, fact),) = family.find_recipe_problems(load_recipe(name, **{setting: SETTINGS[setting]}))
    assert place == ("packages", setting)
    assert "Debian and Ubuntu" in fact


@pytest.mark.parametrize(("family", "name"), RECIPES)
def test_what_is_said_as_it_is_anyway_is_no_fault(family: ModuleType, name: str) -> None:
    assert family.find_recipe_problems(load_recipe(name, components=("main",), variant="minbase")) == []
