"""A network and a cloud that fail and refuse: it ends in success or one clear message, and can be gone on with."""

from __future__ import annotations

import random
import re
import socket
import time
from dataclasses import replace

import pytest

from publishing import meddling
from publishing.conftest import Meet
from publishing.meddling import (
    ALWAYS,
    OLD_AND_NEW,
    STEPS,
    Act,
    Judge,
    is_action,
    is_listing,
    is_manifest,
    is_part,
)
from publishing.site import DIALECTS
from publishing.trying import attempt, check_whole, refusal_of
from xenkiln.bundle import parts
from xenkiln.errors import CloudError, HostError
from xenkiln.lab.cloud import query_signatures, storage_signatures
from xenkiln.publishing.subject import ROLES

ALL = pytest.mark.parametrize("profile", DIALECTS)
PHASES = (meddling.cut_in_body, meddling.cut_after_body, meddling.cut_after_work, meddling.cut_in_answer)


@pytest.mark.parametrize(("profile", "act"), list(zip(DIALECTS, PHASES, strict=True)), ids=DIALECTS)
def test_a_cut_of_any_step_is_got_over(profile: str, act: Act, meet: Meet) -> None:
    site, meddler = meet(profile)
    for judge in STEPS:
        meddler.meddle(judge, act)
    failures = [told for _ in STEPS if (told := attempt(site))]
    # Half an answer is told, and a registration that was not done is not tried again by itself; all else is got over.
    if act is meddling.cut_in_answer:
        assert all("cannot be understood" in told for told in failures)
    else:
        assert len(failures) == (act is not meddling.cut_after_work)
        assert all("register images/vmlinuz" in told for told in failures)
    check_whole(site, meddler)


def test_a_cut_in_the_middle_of_a_large_part_is_got_over(meet: Meet, monkeypatch: pytest.MonkeyPatch) -> None:
    site, meddler = meet()
    monkeypatch.setattr(parts, "PART_BYTES", 10 << 20)
    site.change("vmlinuz", random.randbytes(11 << 20))
    meddler.meddle(is_part, meddling.cut_in_body, times=2)
    assert attempt(site) == ""
    check_whole(site, meddler)


def test_nobody_listens(meet: Meet) -> None:
    site, meddler = meet()
    eucarc = site.server.folder / "credentials" / "eucarc"
    good = eucarc.read_text()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{unused.getsockname()[1]}"
        eucarc.write_text(good.replace(site.server.url, nowhere))
        told = attempt(site)
    assert f'Could not connect to the endpoint URL: "{nowhere}/services/compute"' in told
    assert "check the network and the endpoint" in told
    eucarc.write_text(good)
    check_whole(site, meddler)


@OLD_AND_NEW
def test_a_cloud_that_has_too_much_to_do_is_asked_again(profile: str, meet: Meet) -> None:
    site, meddler = meet(profile)
    for judge in (is_part, is_manifest, is_listing, is_action("DescribeImages")):
        for code, status in (("SlowDown", 503), ("InternalError", 500), ("ServiceUnavailable", 503)):
            meddler.meddle(judge, meddling.refuse(code, status))
    assert attempt(site) == ""
    check_whole(site, meddler)


@OLD_AND_NEW
def test_throttled_calls_are_made_again_once_each(profile: str, meet: Meet) -> None:
    site, meddler = meet(profile, files=ROLES)
    for name in ("RegisterImage", "RunInstances", "DescribeInstances"):
        meddler.meddle(is_action(name), meddling.refuse("RequestLimitExceeded", 503), times=2)
    site.publish()
    site.launch()
    assert len(site.target.compute.list_instances()) == 1
    check_whole(site, meddler)


@pytest.mark.parametrize(("judge", "code", "status", "advice"), [
    (is_part, "SlowDown", 503, "try again later, or lower `parallel`"),
    (is_part, "InternalError", 500, "run it again: it goes on"),
    (is_part, "EntityTooLarge", 400, "more room"),
    (is_part, "InsufficientStorage", 507, "run it again: it goes on"),
    (is_manifest, "AccessDenied", 403, "allow this user the action PutObject"),
    (is_action("RegisterImage"), "InternalError", 500, "run it again: it goes on"),
    (is_action("DescribeImages"), "RequestLimitExceeded", 503, "asked too often: try again later"),
])  # fmt: skip
def test_a_refusal_that_stays_is_told(
    judge: Judge, code: str, status: int, advice: str, meet: Meet
) -> None:
    site, meddler = meet()
    meddler.meddle(judge, meddling.refuse(code, status), ALWAYS, after=0 if judge is not is_part else 2)
    told = attempt(site)
    assert code in told
    assert "for a reason of ours" in told
    assert advice in told.split("next:")[1]
    check_whole(site, meddler)


def test_a_slow_cloud_is_asked_again_and_does_nothing_twice(meet: Meet) -> None:
    site, meddler = meet("2.0", "timeout_seconds: 1\n", ROLES)
    dam = meddling.Dam()
    for judge in (is_part, is_action("RegisterImage"), is_action("RunInstances")):
        meddler.meddle(judge, dam.hold_answer)
    try:
        assert attempt(site) == ""
        site.launch()
    finally:
        dam.opened.set()
    assert len(site.target.compute.list_instances()) == 1
    check_whole(site, meddler)


@ALL
def test_a_wrong_clock_is_told(profile: str, meet: Meet, monkeypatch: pytest.MonkeyPatch) -> None:
    site, meddler = meet(profile)
    for module in (query_signatures, storage_signatures):
        monkeypatch.setattr(module, "time", FastClock)
    told = attempt(site)
    assert re.search("RequestExpired|RequestTimeTooSkewed", told)
    assert "set this machine's clock" in told
    with pytest.raises(CloudError, match="set this machine's clock"):
        site.target.store.open_bucket("images")
    for module in (query_signatures, storage_signatures):
        monkeypatch.setattr(module, "time", time)
    check_whole(site, meddler)


class FastClock:
    @staticmethod
    def time() -> float:
        return time.time() + 1000


@OLD_AND_NEW
def test_wrong_keys_are_told(profile: str, meet: Meet) -> None:
    site, meddler = meet(profile)
    eucarc = site.server.folder / "credentials" / "eucarc"
    good = eucarc.read_text()
    wrong = "AAAABBBBCCCCDDDDEEEEFFFF0000111122223333"
    for variable in ("SECRET", "ACCESS"):
        eucarc.write_text(re.sub(rf"(?<={variable}_KEY=')\w+", wrong, good))
        for told in (attempt(site), refusal_of(lambda: site.target.store.open_bucket("images"))):
            assert re.search("AuthFailure|SignatureDoesNotMatch|InvalidAccessKeyId", told)
            assert "check the access key" in told
            assert wrong not in told
    eucarc.write_text(good)
    check_whole(site, meddler)


@OLD_AND_NEW
def test_a_bucket_of_somebody_else_is_told(profile: str, meet: Meet) -> None:
    site, _ = meet(profile)
    of_others = site.subject.publish.model_copy(update={"bucket": "eucalyptus"})
    told = attempt(replace(site, subject=replace(site.subject, publish=of_others)))
    assert "eucalyptus" in told
    assert "is the bucket yours?" in told


def test_a_full_cloud_of_the_first_release_is_told(meet: Meet) -> None:
    site, meddler = meet("1.4")
    for number in range(5):
        site.target.store.open_bucket(f"bucket-{number}")
    told = attempt(site)
    assert "TooManyBuckets" in told
    assert "use a bucket that is there already" in told
    large = b"<ListBucketResult><Contents><Key>a</Key><Size>5368709120</Size></Contents></ListBucketResult>"
    meddler.meddle(is_listing, meddling.say(large), ALWAYS)
    with pytest.raises(HostError, match=r"the bucket images has 5120\.0 of the 5120 MiB that eucalyptus-1\.4 allows"):
        site.publish()
    assert meddler.list_parts() == []


