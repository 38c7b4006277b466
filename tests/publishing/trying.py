"""Attempts to publish at a cloud that is meddled with, and what must be true whatever happened to them."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable

import pytest

from publishing.meddling import Meddler
from publishing.site import Site
from xenkiln.errors import CloudError, XenkilnError


def attempt(site: Site) -> str:
    """What the user is told of a run that fails, "" for one that does not."""
    try:
        site.publish()
    except XenkilnError as error:
        told = str(error)
    else:
        return ""
    assert re.fullmatch(r"mine[^\n]*: [^\n]+\n  next: [^\n]+", told)
    return told


def show_chain(error: BaseException) -> str:
    """All that a traceback would tell, and the errors themselves."""
    lines = traceback.format_exception(error)
    chain: BaseException | None = error
    while chain is not None:
        lines += [repr(chain), repr(vars(chain))]
        chain = chain.__cause__ or chain.__context__
    return "\n".join(lines)


def check_whole(site: Site, meddler: Meddler) -> None:
    """Another run completes what was begun, or finds it complete; and one more does nothing."""
    meddler.rules.clear()
    ids = site.publish()
    known = [image.id for image in site.target.compute.list_images()]
    assert sorted(known) == sorted(ids.values())
    meddler.stop()
    assert site.publish() == ids
    assert meddler.list_parts() == []
    assert meddler.count("RegisterImage") == 0


def refusal_of(work: Callable[[], object]) -> str:
    with pytest.raises(CloudError) as failure:
        work()
    return str(failure.value)
