"""The recipes that ship are right, and the reference and the editors' schema say what the model says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import AfterValidator

from xenkiln.model.cloud import CloudRecipe
from xenkiln.model.fields import Section, check_key_path, check_recipe_path
from xenkiln.model.image import ImageRecipe
from xenkiln.model.loader import list_missing_keys, load_folder, load_image, load_recipe
from xenkiln.model.prebuilt import PrebuiltRecipe
from xenkiln.model.references import EACH, REFERENCES
from xenkiln.model.schema import list_fields, read_reference, render_schema
from xenkiln.model.wording import find_section, list_sections

PROJECT = Path(__file__).parents[2]
REFERENCE = (PROJECT / "docs" / "recipes.md").read_text(encoding="utf-8")
KINDS: dict[str, tuple[type[Section], str]] = {
    "images": (ImageRecipe, "recipes.md"),
    "clouds": (CloudRecipe, "clouds.md"),
    "prebuilt": (PrebuiltRecipe, "prebuilt.md"),
}
"""Folder -> what its recipes are, and the page that describes them."""
SHIPPED = sorted(path for kind in KINDS for path in (PROJECT / "recipes" / kind).glob("*.yaml"))


def test_every_shipped_recipe_loads(recipes: Path) -> None:
    loaded, broken = load_folder(recipes, ImageRecipe)
    assert not broken, "\n".join(map(str, broken.values()))
    assert {"tiny", "debian-12", "centos-5.2", "centos-7", "rocky-9", "ubuntu-10.04", "ubuntu-24.04"} <= set(
        loaded
    )
    assert [name for name, image in loaded.items() if image.recipe.default] == ["tiny"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_are_right(path: Path) -> None:
    assert load_recipe(path, KINDS[path.parent.name][0]).name == path.stem


def test_names_are_unique_over_all_kinds() -> None:
    names = [path.stem for path in SHIPPED]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_editors_find_the_schema(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_unchecked_signatures_are_explained(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.strip() == "signatures: not checked":
            assert lines[number - 1].strip().startswith("#")


@pytest.mark.usefixtures("fixed_modules")
def test_a_key_that_this_host_lacks_is_named_with_the_way_out(tmp_path: Path) -> None:
    key = "/usr/share/distribution-gpg-keys/none/RPM-GPG-KEY-None"
    recipe = (PROJECT / "recipes" / "images" / "rocky-9.yaml").read_text(encoding="utf-8")
    path = tmp_path / "rocky.yaml"
    path.write_text(re.sub(r"/usr/share/distribution-gpg-keys/[^]]+", key, recipe), encoding="utf-8")
    problems = list_missing_keys(load_image(path))
    assert [problem.field for problem in problems] == [
        f"packages.repositories[{n}].gpgkeys[0]" for n in (0, 1)
    ]
    assert (
        f"this host has no key file {key}; next: install the package distribution-gpg-keys"
        in problems[0].fact
    )
    path.write_text(
        path.read_text().replace("  groups:", "  signatures: not checked\n  groups:"), encoding="utf-8"
    )
    assert list_missing_keys(load_image(path)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_names_every_field_and_its_default(kind: str) -> None:
    model, _ = KINDS[kind]
    assert {field: note.left_out for field, note in read_reference(read_page(kind)).items()} == list_fields(model)


def read_page(kind: str) -> str:
    return (PROJECT / "docs" / KINDS[kind][1]).read_text(encoding="utf-8")


@pytest.mark.usefixtures("fixed_modules")
def test_the_worked_example_loads(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(.+?)```", REFERENCE, re.DOTALL)
    assert example
    (tmp_path / "web").mkdir()
    for name in ("motd.j2", "setup.sh", "alice.pub"):
        (tmp_path / "web" / name).touch()
    (tmp_path / "web.yaml").write_text(example[1], encoding="utf-8")
    assert load_image(tmp_path / "web.yaml").recipe.domain.weight == 512


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_is_what_the_model_says(kind: str, regenerate: bool) -> None:
    path = PROJECT / "recipes" / kind / "schema.json"
    text = render_schema(read_page(kind), KINDS[kind][0])
    if regenerate:
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_is_closed_and_explains_every_field(kind: str) -> None:
    schema = json.loads(render_schema(read_page(kind), KINDS[kind][0]))
    sections = [schema, *(section for section in schema["$defs"].values())]
    assert all(section["additionalProperties"] is False for section in sections)
    assert all(entry.get("description") for section in sections for entry in section["properties"].values())


def test_every_field_that_names_a_file_is_looked_for() -> None:
    naming = set()
    for path in list_sections(ImageRecipe):
        section = find_section(ImageRecipe, path)
        for name, field in section.model_fields.items() if section else ():
            if names_file((field.annotation, *field.metadata)):
                naming.add((*path, name))
    assert naming == {tuple(step for step in path if step != EACH) for path in REFERENCES}


def names_file(parts: tuple[object, ...]) -> bool:
    for part in parts:
        if isinstance(part, AfterValidator) and part.func in (check_recipe_path, check_key_path):
            return True
        if names_file((*get_args(part), *getattr(part, "__metadata__", ()))):
            return True
    return False
