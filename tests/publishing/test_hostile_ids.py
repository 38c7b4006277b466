"""Ids and words of a hostile cloud: none becomes the name of a file, and none reaches the terminal as it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from clouds.amazon import strict_ebs, strict_ec2
from clouds.amazon.strict_ebs import StrictAmazon

from publishing import meddling
from publishing.amazon_site import Desk
from publishing.conftest import Meet
from publishing.meddling import ALWAYS, is_action
from publishing.trying import attempt
from xenkiln.commands import cloud, prune
from xenkiln.errors import CloudError
from xenkiln.publishing.subject import ROLES

EVIL = "/../../evil/X"


def list_everything(folder: Path) -> list[Path]:
    return sorted(path for path in folder.parent.rglob("*evil*"))


@pytest.mark.parametrize("action", ["RegisterImage", "DescribeImages"])
def test_the_id_of_an_image_becomes_no_path(action: str, meet: Meet, tmp_path: Path) -> None:
    site, meddler = meet()
    site.publish()
    site.change("vmlinuz", b"another kernel")
    evil = meddling.change(r"<imageId>eki-\w+</imageId>", f"<imageId>eki-{EVIL}</imageId>")
    meddler.meddle(is_action(action), evil, ALWAYS)
    if action == "RegisterImage":
        # Else the one that the list has of this manifest is taken.
        meddler.meddle(is_action("DescribeImages"), meddling.say(b"<a/>"), ALWAYS)
    said = attempt(site)
    assert f"the cloud gives an id that no image has: 'eki-{EVIL}'" in said
    meddler.rules.clear()
    site.change("vmlinuz", b"a third one")
    assert attempt(site) == ""
    assert list_everything(tmp_path) == []


@pytest.mark.parametrize("image", [False, True], ids=["instance", "its image"])
def test_the_ids_of_an_instance_are_checked(image: bool, meet: Meet) -> None:
    site, meddler = meet(files=ROLES)
    site.publish()
    field = r"<imageId>\w+-\w+</imageId>" if image else r"<instanceId>i-\w+</instanceId>"
    name = "imageId" if image else "instanceId"
    evil = meddling.change(field, f"<{name}>{'emi-' if image else 'i-'}\N{CONTROL SEQUENCE INTRODUCER}2J</{name}>")
    meddler.meddle(is_action("RunInstances"), evil, ALWAYS)
    meddler.meddle(is_action("DescribeInstances"), evil, ALWAYS)
    with pytest.raises(CloudError, match=r"an id that no (instance|image) has: '(i|emi)-\\x9b2J'"):
        site.launch()


def test_words_of_a_cloud_are_printed_plain(meet: Meet, capsys: pytest.CaptureFixture[str]) -> None:
    site, meddler = meet()
    site.publish()
    csi = "\N{CONTROL SEQUENCE INTRODUCER}31m"
    meddler.meddle(is_action("DescribeAvailabilityZones"), meddling.change("<zoneName>", f"<zoneName>{csi}"))
    meddler.meddle(is_action("DescribeImages"), meddling.change("<imageState>", f"<imageState>{csi}"))
    keys = f"<item><keyName>{csi}</keyName></item>"
    keys = f"<DescribeKeyPairsResponse><keySet>{keys}</keySet></DescribeKeyPairsResponse>"
    meddler.meddle(is_action("DescribeKeyPairs"), meddling.say(keys.encode()))
    capsys.readouterr()
    cloud.run(site.cloud)
    said = capsys.readouterr().out
    marked = "\N{REPLACEMENT CHARACTER}31m"
    assert f"key pairs: {marked}\n" in said
    assert said.count(marked) >= 3
    assert all(letter.isprintable() or letter == "\n" for letter in said)


@pytest.mark.parametrize("which", ["image", "snapshot", "image that is listed"])
def test_ids_of_an_amazon_are_checked(
    which: str, begin_at_amazon: Callable[..., Desk], amazon: StrictAmazon, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = begin_at_amazon()
    words = f"an id that no {which.split()[0]} has: '{{}}-{re.escape(EVIL)}'".format
    if which == "snapshot":
        start = strict_ebs.start_snapshot

        def lie(of: StrictAmazon, body: bytes) -> tuple[int, dict[str, object]]:
            status, answer = start(of, body)
            return status, answer | {"SnapshotId": f"snap-{EVIL}"}

        monkeypatch.setattr(strict_ebs, "start_snapshot", lie)
        with pytest.raises(CloudError, match=words("snap")):
            desk.publish()
    elif which == "image":
        monkeypatch.setitem(strict_ec2.ACTIONS, "RegisterImage", lambda *_: f"<imageId>ami-{EVIL}</imageId>")
        with pytest.raises(CloudError, match=words("ami")):
            desk.publish()
    else:
        known = desk.publish()
        amazon.images = {"x": replace(amazon.images[known], id=f"ami-{EVIL}")}
        with pytest.raises(CloudError, match=words("ami")):
            prune.run(desk.cloud)
        assert amazon.count("DeregisterImage") == 0
    assert list_everything(desk.records.folder) == []
