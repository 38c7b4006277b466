"""From recipes/images/NAME.yaml to a typed recipe, or to every problem in it at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from xenkiln.errors import Problem, RecipeError
from xenkiln.model.cloud import CloudRecipe
from xenkiln.model.document import Document, FieldPath, name_field, read_document
from xenkiln.model.fields import Section
from xenkiln.model.image import ImageRecipe
from xenkiln.model.prebuilt import PrebuiltRecipe
from xenkiln.model.references import check_host_files, check_names, check_references
from xenkiln.model.wording import list_problems

_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
RESERVED_NAMES = frozenset({"all"})
"""`build:all` means every recipe."""


R = TypeVar("R", bound=Section)


@dataclass(frozen=True)
class Loaded(Generic[R]):
    """A recipe that was found right: its name, its file as the user is shown it, and the recipe itself."""

    name: str
    file: str
    path: Path
    recipe: R
    document: Document

    def line_of(self, path: FieldPath) -> int:
        """The line of a field, or of the section it would be in: `("domain", "memory_mib")`."""
        return self.document.line_of(path)


LoadedImage = Loaded[ImageRecipe]
LoadedCloud = Loaded[CloudRecipe]
LoadedPrebuilt = Loaded[PrebuiltRecipe]


def load_recipe(path: Path, model: type[R]) -> Loaded[R]:
    """Read and check one recipe.

    Raises RecipeError with every problem of the file: YAML, unknown and missing keys, values, names of
    families and ramdisk makers, files that it refers to.
    """
    file = name_file(path)
    document = read_document(path, file)
    name = path.name.removesuffix(".yaml")
    problems = [*_check_name(name, file), *document.problems]
    recipe = None
    if document.value is None and not document.problems:
        problems.append(Problem(file, 0, "", f"is empty: a recipe begins with {_name_first(model)}"))
    elif not isinstance(document.value, dict):
        if not document.problems:
            problems.append(
                Problem(file, 1, "", "a recipe is made of keys and values, such as 'summary: ...'")
            )
    else:
        recipe, faults = _validate(document, model)
        names = check_names(document)
        named = {problem.field for problem in names}
        problems += [*names, *(fault for fault in faults if fault.field not in named)]
        problems += check_references(document, path.parent)
    if problems or recipe is None:
        raise RecipeError(sorted(problems, key=lambda problem: problem.line))
    return Loaded(name, file, path, recipe, document)


def load_image(path: Path) -> LoadedImage:
    """Read and check an image's recipe; raises as load_recipe."""
    return load_recipe(path, ImageRecipe)


def load_folder(folder: Path, model: type[R]) -> tuple[dict[str, Loaded[R]], dict[str, RecipeError]]:
    """Every recipe of a folder by name: the right ones, and what is wrong with the others.

    A wrong one whose name no task can have goes by one like it. *.lock.yaml and hidden files are not recipes.
    """
    loaded: dict[str, Loaded[R]] = {}
    broken: dict[str, RecipeError] = {}
    for path in sorted(folder.glob("*.yaml")):
        if path.name.startswith(".") or path.name.endswith(".lock.yaml"):
            continue
        name = path.name.removesuffix(".yaml")
        try:
            loaded[name] = load_recipe(path, model)
        except RecipeError as error:
            broken[_name_broken(name)] = error
    return loaded, broken


def problem_at(loaded: Loaded[Any], path: FieldPath, fact: str) -> Problem:
    """A problem that a later check found in a recipe, with its line."""
    return Problem(loaded.file, loaded.line_of(path), name_field(path), fact)


def list_missing_keys(loaded: LoadedImage) -> list[Problem]:
    """Key files that the recipe names by absolute path, that a build needs, and that this host lacks."""
    if loaded.recipe.packages.signatures == "not checked":
        return []
    return check_host_files(loaded.document)


def name_file(path: Path) -> str:
    """A file as messages name it: relative to the current folder where it is below it."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def _check_name(name: str, file: str) -> list[Problem]:
    if name in RESERVED_NAMES:
        return [Problem(file, 0, "", f"'{name}' means every recipe and cannot be the name of one")]
    if not _FILE_NAME.fullmatch(name):
        wanted = "lower-case letters, digits, '.', '_' and '-', starting with a letter or digit"
        return [Problem(file, 0, "", f"the file's name is the recipe's name, and may hold {wanted}")]
    return []


def _name_broken(name: str) -> str:
    """What the tasks that say what is wrong are called: VERB:all is taken, and ':' and '=' divide a task's name."""
    return f"{name}.yaml" if name in RESERVED_NAMES else re.sub("[:=]", "?", name)


def _name_first(model: type[Section]) -> str:
    """The keys that such a recipe begins with, in words."""
    *others, last = [name for name, field in model.model_fields.items() if field.is_required()][:3]
    return f"{', '.join(others)} and {last}"


def _validate(document: Document, model: type[R]) -> tuple[R | None, list[Problem]]:
    try:
        return model.model_validate(document.value), []
    except ValidationError as error:
        return None, list_problems(error, document, model)
