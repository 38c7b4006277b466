"""Which place it is that says who the user is at a cloud: one alone, so that two clouds are never mixed."""

from __future__ import annotations

from collections.abc import Mapping

from xenkiln.clouds.aws_profiles import read_chain, read_profile
from xenkiln.clouds.euca2ools_ini import read_region
from xenkiln.clouds.settings import Source, expand_path
from xenkiln.clouds.variables import read_environment, read_named_eucarc, read_own
from xenkiln.model.cloud import CloudRecipe


def choose_source(recipe: CloudRecipe | None, environment: Mapping[str, str], place: str) -> Source:
    """What the recipe names, and then no variable of any cloud counts; else what the tools of the dialect look at.

    Without a recipe it is as for a Eucalyptus. `place` is the recipe's file. Raises HostError for what cannot be read.
    """
    if recipe is None:
        return read_own(environment, is_complete=_has_access(None, read_environment(environment)))
    named = recipe.credentials
    if named.eucarc:
        return read_named_eucarc(expand_path(named.eucarc, f"{place}: credentials.eucarc"), environment, place)
    if named.region:
        return read_region(named.region, place)
    if named.profile:
        return read_profile(named.profile, environment, place)
    if recipe.dialect == "amazon":
        return read_chain(environment)
    return read_own(environment, is_complete=_has_access(recipe, read_environment(environment)))


def _has_access(recipe: CloudRecipe | None, source: Source) -> bool:
    """Whether it is enough to speak to the cloud with."""
    ec2_url, s3_url = (recipe.ec2_url, recipe.s3_url) if recipe else (None, None)
    return all([source.get("access_key"), source.get("secret_key"),
                source.get("ec2_url") or ec2_url, source.get("s3_url") or s3_url])  # fmt: skip
