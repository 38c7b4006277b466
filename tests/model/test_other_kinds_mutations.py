"""Whatever a cloud's recipe or that of an image made elsewhere holds, it is loaded or refused with a line."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.test_recipe_mutations import UNTIMED, dump, list_places, values
from xenkiln.errors import RecipeError
from xenkiln.model.cloud import CloudRecipe
from xenkiln.model.fields import Section
from xenkiln.model.loader import Loaded, load_recipe
from xenkiln.model.prebuilt import PrebuiltRecipe

CLOUD: dict[str, Any] = {
    "summary": "A cloud with everything", "dialect": "eucalyptus-4.2", "embedded": False,
    "credentials": {"region": "me@here"}, "ec2_url": "https://ec2.example.org/services/compute",
    "s3_url": "https://s3.example.org/services/objectstorage", "aws_region": "here", "certificates": "/etc/ssl/ca.pem",
    "bucket": "images", "keypair": "mine", "keep": 2, "parallel": 8, "bandwidth_mib": 3, "timeout_seconds": 30,
}  # fmt: skip
PREBUILT: dict[str, Any] = {
    "summary": "An image with everything", "arch": "i386", "root": "~/root.img", "kernel": "/boot/vmlinuz",
    "ramdisk": "initrd.img", "root_device": "sda1",
    "publish": {"cloud": "lab", "bucket": "images", "buckets": {"kernel": "kernels", "ramdisk": "rds", "root": "roots"},
                "description": "as it came", "virtualization": "paravirtual", "reproducible": True},
    "launch": {"instance_type": "c1.medium", "keypair": "mine", "security_groups": ["default", "web"],
               "variables": {"a": "b"}, "kernel": "eki-12345678", "ramdisk": "eri-12345678", "zone": "here",
               "addressing": "private", "address": "192.0.2.9", "time_limit_seconds": 60},
}  # fmt: skip
FULL: dict[type[Section], dict[str, Any]] = {CloudRecipe: CLOUD, PrebuiltRecipe: PREBUILT}
PLACES = [(model, place) for model, recipe in FULL.items() for place in list_places(recipe)[1:]]


def load_plain(model: type[Section], recipe: object) -> Loaded[Any] | None:
    """None where it is refused, each time with a line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.yaml"
        path.write_text(dump(recipe, allow_unicode=True))
        try:
            return load_recipe(path, model)
        except RecipeError as error:
            refusal = error
    assert refusal.problems
    assert all(problem.fact and problem.line > 0 for problem in refusal.problems)
    return None


def change(recipe: Any, place: tuple[Any, ...], value: object) -> Any:
    changed = copy.deepcopy(recipe)
    section = changed
    for step in place[:-1]:
        section = section[step]
    if value == "drop":
        del section[place[-1]]
    else:
        section[place[-1]] = value
    return changed


@pytest.mark.parametrize("model", FULL, ids=lambda model: model.__name__)
def test_the_unchanged_recipe_loads(model: type[Section]) -> None:
    assert load_plain(model, FULL[model])


@pytest.mark.parametrize(("model", "place"), PLACES, ids=str)
def test_each_field_of_another_type_is_no_surprise(model: type[Section], place: tuple[Any, ...]) -> None:
    others: list[object] = [None, True, 7, 7.5, "wo rd", [], {}]
    assert not all(load_plain(model, change(FULL[model], place, value)) for value in others)
    load_plain(model, change(FULL[model], place, "drop"))


@settings(UNTIMED, max_examples=200)
@given(st.sampled_from(PLACES), values)
def test_a_changed_recipe_loads_or_is_refused_with_a_line(where: tuple[type[Section], Any], value: object) -> None:
    model, place = where
    load_plain(model, change(FULL[model], place, value))
