"""How the user speaks to a cloud: keys, addresses, region, and whom https is trusted by."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from xenkiln.clouds.settings import Problems, Role, Source, expand_path
from xenkiln.clouds.sources import choose_source
from xenkiln.errors import HostError
from xenkiln.model.cloud import CloudRecipe

REGION = re.compile(r"(?![0-9]+$)(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
"""What boto3 takes; no Eucalyptus looks at the region of a signature."""
ANY_REGION = "eucalyptus"
KEY = re.compile(r"[!-~]+")
HOST = re.compile(r"[A-Za-z0-9._:-]+")
PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?")
BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
"""As euca2ools reads them."""


@dataclass(frozen=True)
class Access:
    """ec2_url, s3_url and ebs_url: without a slash at the end; empty where Amazon's own of the region is meant.

    verify: as requests has it: whether https is checked, or a file with the authorities. source: where all this came
    from, in words. token: empty for keys that last.
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(repr=False)
    ec2_url: str
    s3_url: str
    region: str
    verify: bool | str
    source: str
    ebs_url: str = ""


def find_access(recipe: CloudRecipe, environment: Mapping[str, str], place: str) -> Access:
    """Who the user is at that cloud, from one place; `place` is the recipe's file.

    Raises one HostError with all that is missing or wrong, and where it was looked for.
    """
    source = choose_source(recipe, environment, place)
    problems = Problems()
    attempt = problems.attempt
    access_key = attempt(lambda: _find_key(source, "access_key"))
    secret_key = attempt(lambda: _find_key(source, "secret_key"))
    token = attempt(lambda: _find_key(source, "token") if source.get("token") else "")
    ec2_url = attempt(lambda: _find_url(recipe, source, "ec2_url", place))
    s3_url = attempt(lambda: _find_url(recipe, source, "s3_url", place))
    ebs_url = attempt(lambda: _find_url(recipe, source, "ebs_url", place)) if recipe.dialect == "amazon" else ""
    region = attempt(lambda: _find_region(recipe, source, place))
    verify = attempt(lambda: _find_verify(recipe, source, place))
    if problems.found:
        problems.refuse()
    return Access(access_key or "", secret_key or "", token or "", ec2_url or "", s3_url or "", region or "",
                  False if verify is None else verify, source.words, ebs_url or "")  # fmt: skip


def _find_key(source: Source, role: Role) -> str:
    value = source.get(role)
    if not value:
        raise source.describe_missing(role)
    if not KEY.fullmatch(value):
        raise HostError("has a blank or a character that no key has", place=source.name(role),
                        next_step="copy it again, and nothing else")  # fmt: skip
    return value


def _find_url(recipe: CloudRecipe, source: Source, role: Literal["ec2_url", "s3_url", "ebs_url"], place: str) -> str:
    if own := {"ec2_url": recipe.ec2_url, "s3_url": recipe.s3_url, "ebs_url": recipe.ebs_url}[role]:
        return check_url(own, f"{place}: {role}")
    if value := source.get(role):
        return check_url(value, source.name(role))
    if recipe.dialect == "amazon":
        return ""
    missing = source.describe_missing(role)
    raise HostError(missing.fact, place=missing.place, next_step=f"{missing.next_step}, or write {role} in {place}")


def check_url(url: str, place: str) -> str:
    """A service's address as requests are sent to it; HostError shows nothing of it: it may hold a secret."""
    parts, fact, step = None, "", "write http://HOST:8773/services/NAME or https://HOST"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # reading it is the check
    except ValueError:
        fact = "is no URL"
    if parts and parts.scheme.lower() not in ("http", "https"):
        fact, step = "does not begin with http:// or https://", "write http:// or https:// before it"
    elif parts and (parts.username is not None or parts.password is not None):
        fact, step = "has a user name or a password in it", "take out all from // to @: the keys are enough"
    elif parts and (parts.query or parts.fragment or "?" in url or "#" in url):
        fact, step = "has something after its path", "take out all from ? or # on"
    elif parts and not (parts.hostname and HOST.fullmatch(parts.hostname) and PATH.fullmatch(parts.path)):
        fact = "has no host, or a character that no URL has"
    if fact or not parts:
        raise HostError(fact, place=place, next_step=step)
    return f"{parts.scheme.lower()}://{parts.netloc}{parts.path.rstrip('/')}"


def _find_region(recipe: CloudRecipe, source: Source, place: str) -> str:
    region = recipe.aws_region or source.get("region")
    if REGION.fullmatch(region):
        return region
    if recipe.dialect != "amazon":
        return ANY_REGION
    if not region:
        missing = source.describe_missing("region")
        raise HostError(missing.fact, place=missing.place, next_step=f"write aws_region in {place}")
    where = f"{place}: aws_region" if recipe.aws_region else source.name("region")
    raise HostError("is no region of Amazon", place=where, next_step="write one such as us-east-1")


def _find_verify(recipe: CloudRecipe, source: Source, place: str) -> bool | str:
    if recipe.certificates == "not checked":
        return False
    if recipe.certificates:
        return _check_authorities(recipe.certificates, f"{place}: certificates: {recipe.certificates}")
    value = source.get("verify")
    if not value:
        return True
    label = source.name("verify")
    return BOOLEANS[value.lower()] if value.lower() in BOOLEANS else _check_authorities(value, label)


def _check_authorities(name: str, place: str) -> str:
    path = expand_path(name, place)
    try:
        ssl.create_default_context(cafile=str(path))
    except ssl.SSLError:
        raise HostError("is no file of certificates in PEM", place=place,
                        next_step="take the cloud's own certificate, or that of its authority") from None  # fmt: skip
    except (OSError, ValueError) as error:
        fact = error.strerror if isinstance(error, OSError) else "no file can have this name"
        raise HostError(f"cannot be read: {fact}", place=place, next_step="correct it") from None
    return str(path)
