"""Publishing, launching and taking back, against a cloud that refuses what each release refuses."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
from pathlib import Path

import pytest

from publishing.conftest import Begin
from publishing.site import DIALECTS, Site
from xenkiln.commands import bundle, cloud, instances, keypair, prune, register, unbundle, upload
from xenkiln.errors import BuildError, CloudError, HostError
from xenkiln.publishing.component import open_registered
from xenkiln.publishing.sending import send_stream
from xenkiln.publishing.subject import ROLES

ALL = pytest.mark.parametrize("profile", DIALECTS)
LETTERS = {"kernel": "eki-", "ramdisk": "eri-", "root": "emi-"}


def hash_files(site: Site) -> dict[str, str]:
    names = {"kernel": "vmlinuz", "ramdisk": "initrd.img", "root": "root.img"}
    return {role: hashlib.sha256((site.images / name).read_bytes()).hexdigest() for role, name in names.items()}


@ALL
def test_an_instance_boots_what_was_published(
    profile: str, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    site = begin(profile)
    ids = site.publish()
    assert {role: known[:4] for role, known in ids.items()} == LETTERS
    instance = site.launch()
    site.console()
    said = capsys.readouterr().out
    assert json.loads(next(line for line in said.splitlines() if line.startswith("{"))) == hash_files(site)
    assert "root=/dev/xvda1" in said
    instances.run(site.cloud)
    cloud.run(site.cloud)
    shown = capsys.readouterr().out
    assert all(known in shown for known in (instance, *ids.values()))
    site.terminate()
    assert f"{instance} has ended" in capsys.readouterr().out
    site.terminate()
    assert "no instance of it is running" in capsys.readouterr().out


@ALL
def test_nothing_is_published_twice(profile: str, begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    site = begin(profile)
    ids = site.publish()
    sent = len(site.list_requests(" PUT "))
    capsys.readouterr()
    assert site.publish() == ids
    assert capsys.readouterr().out.count("up to date") == len(ROLES)
    # Nor where the records are lost: the cloud is asked.
    shutil.rmtree(site.records.folder)
    assert site.publish() == ids
    assert len(site.list_requests(" PUT ")) == sent
    instance = site.launch()
    assert site.launch() == instance
    assert "is running already" in capsys.readouterr().out


def test_a_stream_tells_how_much_is_left(begin: Begin) -> None:
    site = begin("2.0")
    site.change("root.img", random.Random(1).randbytes(45 << 20))
    told: list[str] = []
    sent = send_stream(open_registered(site.subject, "root", site.target), site.records, told.append)
    found = [re.search(r" of (\d+) MB at the cloud, .*, \d+ s left", text) for text in told]
    totals = [int(each[1]) for each in found if each]
    assert totals
    # What is read ahead makes the first ones too small.
    assert all(0.3 * sent < total * 1e6 < 1.05 * sent for total in totals), told


@ALL
def test_step_by_step_is_the_same(profile: str, begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    site = begin(profile)
    for command in (bundle, upload, register):
        for role in ROLES:
            command.run(site.subject, site.cloud, role)
    sent = site.count_parts_sent()
    assert sent == len(ROLES)
    capsys.readouterr()
    for command in (bundle, upload, register):
        for role in ROLES:
            command.run(site.subject, site.cloud, role)
    assert capsys.readouterr().out.count("up to date") == 3 * len(ROLES)
    ids = site.publish()
    assert site.count_parts_sent() == sent
    assert {role: known[:4] for role, known in ids.items()} == LETTERS
    site.launch()


@ALL
def test_a_changed_image_stands_beside_the_old_one_until_both_are_taken_back(
    profile: str, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    site = begin(profile)
    old = site.publish()
    site.change("vmlinuz", b"another kernel")
    new = site.publish()
    assert new["ramdisk"] == old["ramdisk"]
    assert not {new["kernel"], new["root"]} & set(old.values())
    there = {image.id for image in site.target.compute.list_images()}
    assert there >= {*old.values(), *new.values()}
    site.launch()
    with pytest.raises(BuildError, match=r"i-\w+ is running[\s\S]*doit terminate:tiny"):
        site.deregister()
    site.terminate()
    site.deregister()
    assert site.target.store.list_objects("images", "") == {}
    left = [image for image in site.target.compute.list_images() if image.state == "available"]
    assert left == []
    capsys.readouterr()
    site.deregister()
    assert "nothing of it was registered" in capsys.readouterr().out
    with pytest.raises(BuildError, match=r"not published there[\s\S]*doit publish:tiny"):
        site.launch()


def test_the_registered_machine_names_its_kernel_and_ramdisk(begin: Begin) -> None:
    site = begin("4.4")
    ids = site.publish()
    image = site.target.compute.find_image(ids["root"])
    assert image
    assert (image.kernel_id, image.ramdisk_id) == (ids["kernel"], ids["ramdisk"])


def test_what_another_has_taken_away_is_published_again(begin: Begin) -> None:
    site = begin("4.4")
    old = site.publish()
    site.target.compute.deregister(old["root"])
    site.target.store.delete("images", next(key for key in site.target.store.list_objects("images", "root-tiny")))
    new = site.publish()
    assert new["root"] != old["root"]
    assert new["kernel"] == old["kernel"]
    site.launch()


def test_prune_keeps_the_newest(begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    site = begin("3.4", "keep: 2\n")
    published = []
    for number in range(4):
        site.change("root.img", b"root %d" % number * 500)
        published.append(site.publish()["root"])
    site.change("root.img", b"root 0" * 500)
    prune.run(site.cloud)
    left = {image.id for image in site.target.compute.list_images() if image.state == "available"}
    assert left & set(published) == set(published[2:])
    assert len(left) == len(ROLES) + 1
    assert "2 taken back" in capsys.readouterr().out
    # What an instance runs stays, however old it is.
    site.change("root.img", b"root 2" * 500)
    site.publish()
    site.launch()
    for number in (5, 6):
        site.change("root.img", b"root %d" % number * 500)
        site.publish()
    prune.run(site.cloud)
    assert published[2] in {image.id for image in site.target.compute.list_images() if image.state == "available"}


def test_a_key_pair_is_made_once_and_kept_for_its_owner_alone(begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    site = begin("4.4")
    keypair.run(site.cloud)
    path = site.records.folder.parent / "keys" / "xenkiln.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith("-----BEGIN")
    before = path.read_bytes()
    keypair.run(site.cloud)
    assert "up to date" in capsys.readouterr().out
    assert path.read_bytes() == before
    site.publish()
    instance = site.launch()
    found = site.target.compute.find_instance(instance)
    assert found
    assert found.keypair == "xenkiln"
    path.unlink()
    with pytest.raises(HostError, match="its private key is not here"):
        keypair.run(site.cloud)


def test_unbundle_opens_what_lies_in_the_bucket(begin: Begin, tmp_path: Path) -> None:
    site = begin("1.4")
    site.publish()
    folder = tmp_path / "fetched"
    folder.mkdir()
    for key, stored in site.target.store.list_objects("images", "root-tiny").items():
        (folder / key).write_bytes(site.target.store.get("images", key, stored.size))
    (manifest,) = folder.glob("*.manifest.xml")
    (own,) = (site.server.folder / "credentials").glob("*-pk.pem")
    unbundle.run(manifest=str(manifest), to=str(tmp_path / "again"), key=str(own))
    assert (tmp_path / "again").read_bytes() == (site.images / "root.img").read_bytes()
    unbundle.run(site.cloud, manifest=str(manifest), to=str(tmp_path / "there"), key="")
    assert (tmp_path / "there").read_bytes() == (site.images / "root.img").read_bytes()


@pytest.mark.parametrize("how", ["failing", "crashing"])
def test_an_instance_that_does_not_come_up_is_told_with_the_clouds_reason(how: str, begin: Begin) -> None:
    site = begin("4.4", how=how)
    site.publish()
    with pytest.raises(CloudError, match=r"has ended before it ran: Server\.InternalError"):
        site.launch()
    site.terminate()


def test_a_launch_that_was_cut_off_is_found_again(begin: Begin) -> None:
    site = begin("2.0")
    ids = site.publish()
    instance = site.launch()
    # As a kill between the request and its answer leaves it.
    values = site.records.read("instance")
    site.records.write("instance", {"image": ids["root"], "asked": "1"}, "asked")
    assert values["id"] == instance
    assert site.launch() == instance
    second = site.target.compute.run(ids["root"], {"KernelId": ids["kernel"]})
    site.records.write("instance", {"image": ids["root"], "asked": "1"}, "asked")
    with pytest.raises(CloudError, match=f"any of .*{second.id}.* may be its|any of .*{instance}"):
        site.launch()


def test_options_take_the_place_of_what_the_recipe_says(begin: Begin) -> None:
    site = begin("4.4")
    ids = site.publish()
    instance = site.target.compute.find_instance(site.launch(instance_type="m1.large", zone="lab"))
    assert instance
    assert instance.kind == "m1.large"
    site.terminate()
    with pytest.raises(HostError, match=r"not as it should be: kernel 'vmlinuz'"):
        site.launch(kernel="vmlinuz")
    with pytest.raises(CloudError, match="FFFFFFFF"):
        site.launch(kernel="eki-FFFFFFFF")
    assert site.launch(kernel=ids["kernel"], addressing="private")
