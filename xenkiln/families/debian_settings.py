"""Settings of `packages` that only apt and mmdebstrap have a use for."""

from __future__ import annotations

from collections.abc import Iterator

from xenkiln.families.contract import FieldProblem
from xenkiln.model.image import ImageRecipe, Packages

DEBIAN_ONLY = ("mirrors", "suites", "components", "variant", "keyring")


def find_debian_settings(recipe: ImageRecipe) -> Iterator[FieldProblem]:
    """Those that a recipe of another family sets to something else than their default."""
    for name in DEBIAN_ONLY:
        if getattr(recipe.packages, name) != Packages.model_fields[name].default:
            yield ("packages", name), "is for Debian and Ubuntu; rpm packages come from repositories: leave this out"
