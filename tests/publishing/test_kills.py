"""kill -9 at any moment of a publishing run: the next one sends what is missing, and registers and launches once."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from publishing.conftest import Meet
from publishing.meddling import (
    ALWAYS,
    Judge,
    Meddler,
    is_action,
    is_listing,
    is_manifest,
    is_part,
)
from publishing.site import Site
from publishing.struck import Moment, kill, running
from publishing.trying import check_whole
from xenkiln.publishing.subject import ROLES


def check_ended(code: int | None) -> None:
    assert code == -signal.SIGKILL


def list_secrets(site: Site) -> list[Path]:
    return sorted(site.records.folder.glob("*.secret*"))


def finish(site: Site, meddler: Meddler, kept: int) -> None:
    """Publish the rest: nothing that the cloud has had whole is sent a second time."""
    meddler.rules.clear()
    before = meddler.list_parts()
    for path in list_secrets(site):
        assert path.stat().st_mode & 0o777 == 0o600
    site.publish()
    sent = Counter(meddler.list_parts())
    stored = site.target.store.list_objects("images", "")
    assert {name for name in stored if ".part." in name} == set(sent)
    # What was on its way when the process died may have come half, or whole without anybody noticing.
    twice = [name for name, times in sent.items() if times > 1]
    assert len(twice) <= len(before) - kept
    assert meddler.count("RegisterImage") <= len(site.subject.files) + 1
    assert list_secrets(site) == []
    check_whole(site, meddler)


@pytest.mark.parametrize("after_work", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", [0, 3])
def test_killed_at_a_part(number: int, after_work: bool, meet: Meet) -> None:
    site, meddler = meet("4.4", "parallel: 1\n")
    with running(site, "publish") as process:
        meddler.meddle(is_part, kill(process, after_work), ALWAYS, after=number)
    check_ended(process.exitcode)
    assert [path.name for path in list_secrets(site)] == ["kernel.secret"]
    finish(site, meddler, number + after_work)


@pytest.mark.parametrize(("profile", "after_work"), [("4.4", False), ("1.4", True)], ids=["before", "after"])
@pytest.mark.parametrize("judge", [is_listing, is_manifest, is_action("RegisterImage")], ids=range(3))
def test_killed_at_a_step(profile: str, judge: Judge, after_work: bool, meet: Meet) -> None:
    site, meddler = meet(profile)
    with running(site, "publish") as process:
        meddler.meddle(judge, kill(process, after_work), ALWAYS)
    check_ended(process.exitcode)
    finish(site, meddler, len(meddler.list_parts()))


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("kind", ["uploaded", "registered"])
def test_killed_at_a_record(kind: str, moment: Moment, meet: Meet) -> None:
    site, meddler = meet("2.0")
    with running(site, "publish", kind=kind, moment=moment) as process:
        pass
    check_ended(process.exitcode)
    finish(site, meddler, len(meddler.list_parts()))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_between_the_instance_and_its_record(moment: Moment, meet: Meet) -> None:
    site, meddler = meet("1.4", files=ROLES)
    with running(site, "publish", "launch", kind="instance", moment=moment) as process:
        pass
    check_ended(process.exitcode)
    instance = site.launch()
    assert [each.id for each in site.target.compute.list_instances()] == [instance]
    assert meddler.count("RunInstances") == 1


@pytest.mark.parametrize("after_work", [False, True], ids=["before", "after"])
def test_killed_at_the_launch(after_work: bool, meet: Meet) -> None:
    site, meddler = meet("2.0", files=ROLES)
    site.publish()
    with running(site, "launch") as process:
        meddler.meddle(is_action("RunInstances"), kill(process, after_work))
    check_ended(process.exitcode)
    instance = site.launch()
    assert [each.id for each in site.target.compute.list_instances()] == [instance]


def test_killed_while_it_takes_everything_back(meet: Meet) -> None:
    site, meddler = meet("4.4", files=ROLES)
    site.publish()
    with running(site, "deregister") as process:
        meddler.meddle(lambda asked: asked.method == "DELETE", kill(process, after_work=True))
    check_ended(process.exitcode)
    site.deregister()
    assert site.target.store.list_objects("images", "") == {}
    assert site.target.compute.list_images() == []
