"""A cloud whose answers are lost, garbage or lies: nothing is done twice, and the next run completes."""

from __future__ import annotations

import itertools
import re

import pytest

from publishing import meddling
from publishing.conftest import Meet
from publishing.meddling import (
    ALWAYS,
    STEPS,
    Act,
    Asked,
    is_action,
    is_listing,
    is_manifest,
    is_part,
)
from publishing.trying import attempt, check_whole, show_chain
from xenkiln.clouds import store
from xenkiln.commands import keypair
from xenkiln.errors import CloudError
from xenkiln.lab.cloud.request import Answer
from xenkiln.publishing.subject import ROLES

LOST = (meddling.cut_after_work, meddling.cut_in_answer, meddling.say_after_work(b"<html>", 502))


@pytest.mark.parametrize(("profile", "act"), list(zip(("1.4", "3.4", "4.4"), LOST, strict=True)), ids=range(3))
def test_no_second_instance_where_the_answer_was_lost(profile: str, act: Act, meet: Meet) -> None:
    site, meddler = meet(profile, files=ROLES)
    site.publish()
    meddler.meddle(is_action("RunInstances"), act)
    instance = site.launch()
    assert [each.id for each in site.target.compute.list_instances()] == [instance]
    assert site.launch() == instance


def test_no_second_instance_where_the_cloud_was_away_for_longer(meet: Meet) -> None:
    site, meddler = meet("1.4", files=ROLES)
    site.publish()
    meddler.meddle(is_action("RunInstances"), meddling.cut_after_work)
    meddler.meddle(is_action("DescribeInstances"), meddling.cut_after_body, ALWAYS, after=1)
    with pytest.raises(CloudError, match=r"mine, run emi-\w+: Connection was closed[\s\S]*run it again"):
        site.launch()
    meddler.rules.clear()
    instance = site.launch()
    assert [each.id for each in site.target.compute.list_instances()] == [instance]


def test_a_key_pair_whose_private_key_was_lost_is_made_anew(meet: Meet) -> None:
    site, meddler = meet()
    meddler.meddle(is_action("CreateKeyPair"), meddling.cut_in_answer)
    with pytest.raises(CloudError, match="cannot be understood") as failure:
        keypair.run(site.cloud)
    assert "PRIVATE KEY" not in show_chain(failure.value)
    keypair.run(site.cloud)
    assert "-----END" in (site.records.folder.parent / "keys" / "xenkiln.pem").read_text()


def test_a_key_pair_of_that_name_is_left_alone(meet: Meet) -> None:
    site, meddler = meet()
    keypair.run(site.cloud)
    meddler.meddle(is_action("DescribeKeyPairs"), meddling.say(b"<DescribeKeyPairsResponse/>"))
    with pytest.raises(CloudError, match=r"InvalidKeyPair\.Duplicate"):
        keypair.run(site.cloud)
    assert site.target.compute.list_keypairs().keys() == {"xenkiln"}


GARBAGE = (
    b"", b"<html><body>It works!</body></html>", b"\x00\xff<", b"<a><b/></a>",
    b"<ListBucketResult><Contents><Key>vmlinuz</Key><Size>many</Size></Contents></ListBucketResult>",
)  # fmt: skip


@pytest.mark.parametrize("status", [200, 404, 502])
def test_garbage_in_place_of_an_answer_is_a_message(status: int, meet: Meet) -> None:
    site, meddler = meet()
    for number, judge in enumerate(STEPS):
        for garbage in (*GARBAGE[number:], *GARBAGE[:number]):
            meddler.meddle(judge, meddling.say(garbage, status))
    while any(rule.after >= -rule.times for rule in meddler.rules):
        attempt(site)
    check_whole(site, meddler)


def test_a_wrong_etag_is_not_believed(meet: Meet) -> None:
    site, meddler = meet()
    meddler.meddle(is_part, meddling.lie_about_etag, times=2)
    assert attempt(site) == ""
    site.change("vmlinuz", b"another kernel")
    meddler.meddle(is_manifest, meddling.lie_about_etag, ALWAYS)
    assert re.search(r"the cloud has got other bytes than were sent: MD5 0+, not \w{32}", attempt(site))
    meddler.rules.clear()
    assert attempt(site) == ""


def test_a_list_that_claims_what_is_not_there_is_no_bundle(meet: Meet) -> None:
    site, meddler = meet()
    meddler.meddle(is_action("RegisterImage"), meddling.refuse("Denied", 403))
    assert "Denied" in attempt(site)
    store = site.target.store
    (manifest,) = (key for key in store.list_objects("images", "") if key.endswith(".xml"))
    meddler.stop()
    lie = meddling.Replay()
    meddler.meddle(is_listing, lie.record)
    store.list_objects("images", "")
    store.delete("images", manifest)
    meddler.meddle(is_listing, lie.play, ALWAYS)
    assert f"images/{manifest} cannot be read" in attempt(site)
    check_whole(site, meddler)


@pytest.mark.parametrize("field", [r"<Size>\d+</Size>", r'<ETag>[^<]*</ETag>'])
def test_a_list_with_other_sizes_or_digests_has_everything_sent_again(field: str, meet: Meet) -> None:
    site, meddler = meet()
    meddler.meddle(is_action("RegisterImage"), meddling.refuse("Denied", 403))
    attempt(site)
    sent = meddler.list_parts()
    meddler.asked.clear()
    name = field[1:5].strip(">")
    meddler.meddle(is_listing, meddling.change(field, f"<{name}>1</{name}>"), ALWAYS)
    assert "the cloud has no bundle of vmlinuz as it is now" in attempt(site)
    assert sorted(meddler.list_parts()) == sorted(sent)
    check_whole(site, meddler)


def test_a_cloud_that_forgets_what_it_registered(meet: Meet) -> None:
    site, meddler = meet()
    none = meddling.say(b"<DescribeImagesResponse><imagesSet/></DescribeImagesResponse>")
    meddler.meddle(is_action("DescribeImages"), none, times=2, after=1)
    assert attempt(site) == ""
    check_whole(site, meddler)
    site.change("vmlinuz", b"another kernel")
    meddler.meddle(is_action("DescribeImages"), none, ALWAYS, after=2)
    assert "was registered, and is gone now" in attempt(site)
    meddler.rules.clear()
    assert attempt(site) == ""
    assert meddler.count("RegisterImage") == 1


def test_lists_that_are_wrong(meet: Meet, monkeypatch: pytest.MonkeyPatch) -> None:
    site, meddler = meet()
    monkeypatch.setattr(store, "MOST_PAGES", 5)
    page = itertools.count()

    def go_on(asked: Asked) -> Answer:
        return meddling.say(f"<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>v{next(page):09}</Key>"
                            "<Size>1</Size></Contents></ListBucketResult>".encode())(asked)  # fmt: skip

    meddler.meddle(is_listing, go_on, ALWAYS)
    assert "the list of objects does not end after 5 pages" in attempt(site)
    meddler.rules.clear()
    # The same page again and again; and one that has nothing to do with what was asked for.
    again = (b"<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a</Key></Contents><Contents>"
             b"<Size>1</Size></Contents></ListBucketResult>")  # fmt: skip
    meddler.meddle(is_listing, meddling.say(again), ALWAYS)
    assert "the cloud has no bundle of vmlinuz as it is now" in attempt(site)
    check_whole(site, meddler)


