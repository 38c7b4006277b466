"""What is at the cloud decides: records that are lost, bundles that are gone, and what somebody may run."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import replace

import pytest

from publishing import meddling
from publishing.conftest import Begin, Meet
from publishing.meddling import ALWAYS, Meddler, is_part
from publishing.site import Site
from publishing.trying import attempt
from xenkiln.commands import bundle, prune, upload
from xenkiln.errors import BuildError, CloudError
from xenkiln.publishing.subject import ROLES


def drop_objects(site: Site, prefix: str) -> None:
    for key in site.target.store.list_objects("images", prefix):
        site.target.store.delete("images", key)


def test_a_launch_that_was_refused_takes_nobody_elses_instance(begin: Begin) -> None:
    site = begin("2.0")
    ids = site.publish()
    with pytest.raises(CloudError, match=r"nosuch\.type"):
        site.launch(instance_type="nosuch.type")
    other = site.target.compute.run(ids["root"], {"KernelId": ids["kernel"]})
    site.terminate()
    assert site.launch() != other.id


def test_an_instance_that_was_there_before_is_not_taken_for_a_lost_one(begin: Begin) -> None:
    site = begin("2.0")
    ids = site.publish()
    other = site.target.compute.run(ids["root"], {"KernelId": ids["kernel"]})
    site.records.write("instance", {"image": ids["root"], "asked": "1", "others": other.id}, "asked")
    assert site.launch() != other.id


def test_options_that_a_running_instance_has_not_are_refused(begin: Begin) -> None:
    site = begin("4.4")
    ids = site.publish()
    known = site.launch(instance_type="m1.large")
    assert site.launch() == site.launch(instance_type="m1.large") == known
    with pytest.raises(BuildError, match=rf"{known} is running, started with instance_type m1.large; asked for is"
                       r" kernel eki-\w+\n.*doit terminate:tiny cloud=mine"):  # fmt: skip
        site.launch(kernel=ids["kernel"])
    assert site.target.compute.find_instance(known)


def test_an_instance_of_an_earlier_image_is_told_as_that(begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    site = begin("2.0")
    first = site.publish()["root"]
    known = site.launch()
    site.change("root.img", b"another")
    site.publish()
    capsys.readouterr()
    assert site.launch() == known
    assert f"it runs {first}, an earlier image: doit terminate:tiny first" in capsys.readouterr().out
    assert site.records.read("instance")["image"] == first


def test_others_of_the_same_image_are_told(begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    site = begin("2.0")
    ids = site.publish()
    other = site.target.compute.run(ids["root"], {"KernelId": ids["kernel"]})
    assert site.launch() != other.id
    assert f"of the same image run, started by somebody else: {other.id}" in capsys.readouterr().out


def test_a_console_lacks_what_is_expected(begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    site = begin("2.0")
    site.publish()
    known = site.launch()
    expecting = replace(site, subject=replace(site.subject, expected=("no such text",), boot_seconds=1))
    with pytest.raises(BuildError, match=rf"{known}: not seen in \d+ s: no such text"):
        expecting.console()
    assert "root=/dev/xvda1" in capsys.readouterr().out


def test_the_console_of_an_instance_that_has_ended_is_still_there(
    begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    site = begin("2.0")
    site.publish()
    known = site.launch()
    capsys.readouterr()
    site.console()
    said = capsys.readouterr().out
    site.target.compute.terminate(known)
    site.console()
    assert capsys.readouterr().out == said


def test_a_machine_whose_kernel_is_another_by_now_is_not_up_to_date(begin: Begin) -> None:
    site = begin("4.4")
    ids = site.publish()
    site.target.compute.deregister(ids["kernel"])
    with pytest.raises(BuildError, match=rf"{ids['root']} names the kernel {ids['kernel']}, which is eki-\w+ now"
                       r"\n.*doit deregister:tiny cloud=mine, then publish it again"):  # fmt: skip
        site.publish()
    site.deregister()
    assert site.publish()["kernel"] != ids["kernel"]


def test_what_may_be_of_a_lost_launch_is_not_ended(begin: Begin) -> None:
    site = begin("2.0")
    ids = site.publish()
    other = site.target.compute.run(ids["root"], {"KernelId": ids["kernel"]})
    site.records.write("instance", {"image": ids["root"], "asked": "1"}, "asked")
    with pytest.raises(CloudError, match=rf"{other.id} may be its[\s\S]*doit launch:tiny cloud=mine takes it over"):
        site.terminate()
    assert site.launch() == other.id


def test_an_image_whose_bundle_is_gone_is_not_called_up_to_date(begin: Begin) -> None:
    site = begin("4.4")
    site.publish()
    drop_objects(site, "root-tiny")
    with pytest.raises(BuildError, match=r"emi-\w+ is registered, and root-tiny.* is gone[\s\S]*doit deregister:tiny"):
        site.publish()
    shutil.rmtree(site.records.folder)
    with pytest.raises(BuildError, match="is gone"):
        site.publish()
    site.deregister()
    site.publish()
    site.launch()


def test_upload_leaves_a_registered_bundle_as_it_is(begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    site = begin("3.4")
    site.publish()
    before = site.target.store.list_objects("images", "")
    for role in ROLES:
        bundle.run(site.subject, site.cloud, role)
        upload.run(site.subject, site.cloud, role)
    assert site.target.store.list_objects("images", "") == before
    assert capsys.readouterr().out.count("is registered of images/") == len(ROLES)


def test_where_the_records_are_lost_the_cloud_is_asked(begin: Begin) -> None:
    site = begin("1.4")
    ids = site.publish()
    shutil.rmtree(site.records.folder)
    site.launch()
    assert site.records.read("registered")["root.id"] == ids["root"]
    site.terminate()
    shutil.rmtree(site.records.folder)
    site.deregister()
    assert site.target.store.list_objects("images", "") == {}


def test_what_was_uploaded_and_never_registered_is_taken_back(begin: Begin) -> None:
    site = begin("2.0")
    for role in ROLES:
        bundle.run(site.subject, site.cloud, role)
        upload.run(site.subject, site.cloud, role)
    assert site.target.store.list_objects("images", "")
    site.deregister()
    assert site.target.store.list_objects("images", "") == {}


def break_off(site: Site, meddler: Meddler) -> None:
    """A publish that comes no further than its first part."""
    meddler.meddle(is_part, meddling.refuse("AccessDenied", 403), times=ALWAYS, after=1)
    assert attempt(site)
    meddler.rules.clear()


def test_parts_of_an_image_that_has_changed_since_are_removed(meet: Meet) -> None:
    site, meddler = meet("2.0")
    site.publish()
    site.change("vmlinuz", random.randbytes(300_000))
    break_off(site, meddler)
    before = {*site.target.store.list_objects("images", "vmlinuz-tiny")}
    site.change("vmlinuz", random.randbytes(300_000))
    ids = site.publish()
    there = site.target.store.list_objects("images", "vmlinuz-tiny")
    locations = [image.location for image in site.target.compute.list_images() if "vmlinuz-" in image.location]
    assert len(locations) == 2
    assert {f"images/{name.partition('.part.')[0]}.manifest.xml" for name in there if ".part." in name} == {*locations}
    assert before - there.keys()
    assert site.publish() == ids


def test_parts_that_were_begun_are_taken_back(meet: Meet) -> None:
    site, meddler = meet("2.0")
    break_off(site, meddler)
    assert site.target.store.list_objects("images", "")
    site.deregister()
    assert site.target.store.list_objects("images", "") == {}


def test_prune_leaves_what_was_published_last_from_here(begin: Begin) -> None:
    site = begin("3.4", "keep: 1\n")
    first = os.urandom(5000)
    site.change("root.img", first)
    wanted = site.publish()["root"]
    site.change("root.img", os.urandom(5000))
    site.publish()
    site.change("root.img", first)
    assert site.publish()["root"] == wanted
    prune.run(site.cloud)
    assert site.launch()
