"""What is at the cloud decides: records that are lost, bundles that are gone, and what somebody may run."""

from __future__ import annotations

import json
import os
import random
import re
import shutil

import pytest

from publishing import meddling
from publishing.conftest import Begin, Meet
from publishing.meddling import ALWAYS, Meddler, is_part
from publishing.site import Site
from publishing.trying import attempt
from xenkiln.commands import bundle, prune, upload
from xenkiln.errors import BuildError, HostError
from xenkiln.publishing.registering import remove_objects
from xenkiln.publishing.subject import ROLES


def drop_objects(site: Site, prefix: str) -> None:
    for key in site.target.store.list_objects("images", prefix):
        site.target.store.delete("images", key)


def test_what_is_registered_of_a_location_is_taken_back_whatever_the_records_say(begin: Begin) -> None:
    site = begin("2.0")
    first = site.publish()
    # The ids are another run's, and the image is another one by now.
    values = site.records.read("registered")
    site.records.write("registered", values | {"root.id": "emi-00000000"}, "registered")
    site.deregister()
    assert site.target.compute.list_images() == []
    assert site.publish().keys() == first.keys()
    (site.records.folder / "registered.json").unlink()
    site.change("root.img", b"another")
    site.deregister()
    assert site.target.compute.list_images() == []
    assert site.target.store.list_objects("images", "") == {}


def test_a_bundle_stays_as_long_as_an_image_is_registered_of_it(begin: Begin) -> None:
    site = begin("2.0")
    site.publish()
    location = site.records.read("registered")["root.location"]
    before = site.target.store.list_objects("images", "root-tiny")
    remove_objects(location, site.target)
    assert site.target.store.list_objects("images", "root-tiny") == before


def test_another_users_records_are_not_taken_for_ones_own(begin: Begin) -> None:
    site = begin("2.0")
    site.publish()
    known = site.launch()
    eucarc = site.server.folder / "credentials" / "eucarc"
    mine = eucarc.read_text()
    eucarc.write_text(re.sub("EC2_ACCESS_KEY=.*", "EC2_ACCESS_KEY='another'", mine))
    for verb in (site.publish, site.launch, site.console, site.terminate, site.deregister):
        with pytest.raises(HostError, match=r"its records are of another access key at http.*\n.*owner\.json"):
            verb()
    eucarc.write_text(re.sub("127.0.0.1", "localhost", mine))
    with pytest.raises(HostError, match=r"its records are of http://127.*, and the cloud is http://localhost\S+ now"):
        site.deregister()
    eucarc.write_text(mine)
    assert site.launch() == known


@pytest.mark.parametrize("is_known", [True, False])
def test_a_part_that_is_another_one_is_found(is_known: bool, begin: Begin) -> None:
    site = begin("2.0")
    site.publish()
    (part,) = [key for key in site.target.store.list_objects("images", "root-tiny") if key.endswith(".part.00")]
    if is_known:
        site.target.store.put("images", part, b"damaged")
    else:
        shutil.rmtree(site.records.folder)
        site.target.store.delete("images", part)
    with pytest.raises(BuildError, match=rf"{part} of its bundle is {'another one' if is_known else 'gone'}"):
        site.publish()


@pytest.mark.parametrize("profile", ["1.4", "2.0"])
def test_a_root_filesystem_that_was_only_uploaded_still_names_its_kernel(profile: str, begin: Begin) -> None:
    site = begin(profile)
    for role in ROLES:
        bundle.run(site.subject, site.cloud, role)
        upload.run(site.subject, site.cloud, role)
    ids = site.publish()
    image = site.target.compute.find_image(ids["root"])
    assert image
    assert (image.kernel_id, image.ramdisk_id) == (ids["kernel"], ids["ramdisk"])


def test_a_kernel_that_is_gone_is_not_named_again(begin: Begin) -> None:
    site = begin("2.0")
    ids = site.publish()
    for role in ("root", "kernel"):
        site.target.compute.deregister(ids[role])
    again = site.publish()
    image = site.target.compute.find_image(again["root"])
    assert image
    assert image.kernel_id == again["kernel"] != ids["kernel"]


def test_what_a_killed_stream_kept_goes_with_the_image(meet: Meet) -> None:
    site, meddler = meet("2.0")
    break_off(site, meddler)
    assert [*site.records.folder.glob("*.secret")]
    site.deregister()
    assert [*site.records.folder.glob("*.secret")] == []


@pytest.mark.parametrize("objects", [{}, {"x": [5, "zz"]}, {"x": 1}, [], "x"])
def test_an_edited_record_of_a_bundle_is_no_bundle(objects: object, begin: Begin) -> None:
    site = begin("2.0")
    bundle.run(site.subject, site.cloud, "root")
    path = site.images.parents[1] / "bundles" / "tiny" / "root" / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"objects": objects}))
    with pytest.raises(BuildError, match=r"the bundle is not there, or is an older image's\n.*doit bundle:tiny"):
        upload.run(site.subject, site.cloud, "root")
    bundle.run(site.subject, site.cloud, "root")
    upload.run(site.subject, site.cloud, "root")


def test_a_machine_whose_kernel_is_another_by_now_is_not_up_to_date(begin: Begin) -> None:
    site = begin("4.4")
    ids = site.publish()
    site.target.compute.deregister(ids["kernel"])
    with pytest.raises(BuildError, match=rf"{ids['root']} names the kernel {ids['kernel']}, which is eki-\w+ now"
                       r"\n.*doit deregister:tiny cloud=mine, then publish it again"):  # fmt: skip
        site.publish()
    site.deregister()
    assert site.publish()["kernel"] != ids["kernel"]


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
