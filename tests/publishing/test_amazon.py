"""Publishing at Amazon: what is registered, what is refused, what a second run does, and what is left behind."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clouds.amazon.strict_ebs import StrictAmazon

from publishing.amazon_site import AKI, BLOCK, HVM, OLD_KIND, PV_GRUB, Desk, as_disk, as_filesystem
from xenkiln.clouds import crew, ebs
from xenkiln.clouds.bandwidth import Bandwidth
from xenkiln.commands import launch, prune, publish
from xenkiln.errors import BuildError, CloudError, HostError

Begin = Callable[..., Desk]


@pytest.mark.parametrize(("section", "file", "form"), [
    (PV_GRUB, "root.img", {"VirtualizationType": "paravirtual", "KernelId": AKI, "RootDeviceName": "/dev/xvda1"}),
    (HVM, "disk.img", {"VirtualizationType": "hvm", "RootDeviceName": "/dev/xvda", "EnaSupport": "true"}),
    ({**HVM, "ena": False}, "disk.img", {"VirtualizationType": "hvm"}),
    ({**HVM, "boot_mode": "legacy-bios", "description": "one of ours"}, "disk.img",
     {"VirtualizationType": "hvm", "BootMode": "legacy-bios", "Description": "one of ours", "EnaSupport": "true"}),
], ids=["pv-grub", "hvm", "hvm without ena", "hvm with its boot mode"])  # fmt: skip
def test_an_image_is_registered_as_what_it_is(
    section: dict[str, Any], file: str, form: dict[str, str], begin_at_amazon: Begin, amazon: StrictAmazon
) -> None:
    desk = begin_at_amazon(section)
    image = amazon.images[desk.publish()]
    assert form.items() <= image.form.items()
    assert image.form["Architecture"] == "x86_64"
    assert {"KernelId", "BootMode", "RamdiskId", "EnaSupport"} & image.form.keys() <= form.keys()
    (snapshot,) = amazon.snapshots.values()
    assert image.form["BlockDeviceMapping.1.Ebs.SnapshotId"] == snapshot.id
    data = (desk.images / file).read_bytes()
    assert snapshot.blocks == {0: data[:BLOCK]}
    assert snapshot.request["VolumeSize"] == 1


def test_an_image_is_tagged_with_what_it_is_of(begin_at_amazon: Begin, amazon: StrictAmazon, tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    git = ["git", "-C", str(folder), "-c", "user.name=me", "-c", "user.email=me@example.org"]
    (folder / "tiny.lock.yaml").write_text("packages: []\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    desk = begin_at_amazon()
    desk = replace(desk, subject=replace(desk.subject, folder=folder))
    tags = amazon.images[desk.publish()].tags
    revision = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    digest = tags.pop("xenkiln:digest")
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert tags == {
        "made-by": "xenkiln",
        "xenkiln:image": "tiny",
        "xenkiln:recipe": "tiny.yaml",
        "xenkiln:lock": hashlib.sha256(b"packages: []\n").hexdigest(),
        "xenkiln:revision": revision,
    }
    (snapshot,) = amazon.snapshots.values()
    assert snapshot.tags == tags | {"xenkiln:digest": digest}
    # What differs from that revision is said, and what is in none.
    (folder / "tiny.lock.yaml").write_text("packages: [one]\n")
    desk.write("disk.img", as_disk(b"two"))
    assert amazon.images[desk.publish()].tags["xenkiln:revision"] == f"{revision}-dirty"
    desk.write("disk.img", as_disk(b"three"))
    bare = replace(desk, subject=replace(desk.subject, folder=tmp_path))
    tags = amazon.images[bare.publish()].tags
    assert (tags["xenkiln:revision"], tags["xenkiln:lock"]) == ("unknown", "none")


@pytest.mark.parametrize(("section", "data", "words"), [
    (HVM, as_filesystem(b""), "a bare ext filesystem.*`shapes: \\[disk\\]` makes one.*pv-grub"),
    (HVM, as_disk(b"", boot_code=b""), "a BIOS finds nothing to boot in its first sector; install a boot loader"),
    ({**HVM, "boot_mode": "uefi"}, as_disk(b""), "needs an EFI system partition"),
    (HVM, b"QFI\xfb", "not raw but qcow2.*qemu-img convert"),
    (PV_GRUB, bytes(2048), "neither a disk nor a filesystem.*publish a root filesystem"),
], ids=["a filesystem", "no loader", "no esp", "qcow2", "nothing"])  # fmt: skip
def test_what_would_never_boot_is_refused_before_anything_is_sent(
    section: dict[str, Any], data: bytes, words: str, begin_at_amazon: Begin, amazon: StrictAmazon
) -> None:
    desk = begin_at_amazon(section)
    desk.write("disk.img" if section.get("virtualization") else "root.img", data)
    with pytest.raises(BuildError, match=rf"tiny\.yaml: publish: .*{words}"):
        desk.publish()
    assert {name for name, _ in amazon.requests} == {"DescribeImages"}
    assert desk.records.read("registered") == {}


@pytest.mark.parametrize(("section", "words"), [
    ({}, "next: publish: {kernel_id: aki-..."),
    ({**PV_GRUB, "ramdisk_id": "ari-99fe2101"}, "next: leave publish.ramdisk_id out"),
    (OLD_KIND, "next: kernel: {in_image: true}"),
    ({**HVM, "boot_mode": "uefi", "ena": False}, "UEFI is on Nitro alone"),
])  # fmt: skip
def test_what_amazon_cannot_take_is_refused_before_it_is_asked(
    section: dict[str, Any], words: str, begin_at_amazon: Begin, amazon: StrictAmazon
) -> None:
    desk = begin_at_amazon(section)
    with pytest.raises(HostError, match=re.escape(words)):
        publish.check(desk.subject, desk.cloud)
    assert amazon.requests == []


@pytest.mark.parametrize("section", [HVM, PV_GRUB], ids=["hvm", "pv-grub"])
def test_nothing_is_published_twice(
    section: dict[str, Any], begin_at_amazon: Begin, amazon: StrictAmazon, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = begin_at_amazon(section)
    known = desk.publish()
    assert re.search(rf"publish:tiny  {known}  [0-9.]+ s$", capsys.readouterr().out, re.MULTILINE)
    amazon.requests.clear()
    assert desk.publish() == known
    assert f"publish:tiny  {known}  up to date" in capsys.readouterr().out
    # Nor where the records are lost: the cloud is asked.
    for path in desk.records.folder.glob("*.json"):
        path.unlink()
    assert desk.publish() == known
    assert {name for name, _ in amazon.requests} == {"DescribeImages"}
    desk.deregister()
    assert (amazon.images, amazon.snapshots) == ({}, {})


def test_a_changed_image_stands_beside_the_old_one_until_both_are_taken_back(
    begin_at_amazon: Begin, amazon: StrictAmazon, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = begin_at_amazon()
    old = desk.publish()
    desk.write("disk.img", as_disk(b"two"))
    new = desk.publish()
    assert list(amazon.images) == [old, new]
    desk.write("disk.img", as_disk(b"one"))
    assert desk.publish() == old
    # Each record names the snapshot that its own image is made of.
    found = [desk.records.read("registered"), *desk.records.list_earlier().values()]
    assert {(each["root.id"], each["root.snapshot"]) for each in found} == {
        (image.id, image.form["BlockDeviceMapping.1.Ebs.SnapshotId"]) for image in amazon.images.values()
    }
    snapshots = list(amazon.snapshots)
    capsys.readouterr()
    desk.deregister()
    assert (amazon.images, amazon.snapshots) == ({}, {})
    said = capsys.readouterr().out
    assert all(said.count(each) == 1 for each in (old, new, *snapshots))
    desk.deregister()
    assert "nothing of it was registered" in capsys.readouterr().out


def test_records_are_believed_only_when_the_cloud_confirms_them(begin_at_amazon: Begin, amazon: StrictAmazon) -> None:
    desk = begin_at_amazon()
    old = desk.publish()
    del amazon.images[old]
    with pytest.raises(BuildError, match=rf"does not know {old} any more[\s\S]*doit publish:tiny"):
        launch.run(desk.subject, desk.cloud)
    assert desk.publish() != old
    assert len(amazon.images) == 1
    desk.deregister()
    assert (amazon.images, amazon.snapshots) == ({}, {})


def fail_at(amazon: StrictAmazon, operation: str, number: int) -> None:
    amazon.choose_fault = lambda name, count: "denied" if name == operation and count == number else None


@pytest.mark.parametrize(("operation", "number"), [
    ("StartSnapshot", 0), ("PutSnapshotBlock", 2), ("CompleteSnapshot", 0), ("RegisterImage", 0)])  # fmt: skip
def test_a_run_that_was_cut_off_goes_on_where_it_was(
    operation: str, number: int, begin_at_amazon: Begin, amazon: StrictAmazon
) -> None:
    desk = begin_at_amazon()
    desk.write("disk.img", as_disk(os.urandom(4 * BLOCK)))
    fail_at(amazon, operation, number)
    with pytest.raises(CloudError, match="AccessDenied"):
        desk.publish()
    amazon.choose_fault = lambda _name, _count: None
    image = amazon.images[desk.publish()]
    (snapshot,) = amazon.snapshots.values()
    assert image.form["BlockDeviceMapping.1.Ebs.SnapshotId"] == snapshot.id
    assert len(snapshot.blocks) == 5
    assert amazon.count("StartSnapshot") == (2 if operation == "StartSnapshot" else 1)
    assert not list(desk.records.folder.glob("*.snapshot.json"))


@pytest.mark.parametrize("operation", ["PutSnapshotBlock", "RegisterImage"])
def test_what_was_begun_of_an_older_image_is_not_left_behind(
    operation: str, begin_at_amazon: Begin, amazon: StrictAmazon
) -> None:
    desk = begin_at_amazon()
    fail_at(amazon, operation, 0)
    with pytest.raises(CloudError):
        desk.publish()
    assert len(amazon.snapshots) == 1
    amazon.choose_fault = lambda _name, _count: None
    desk.write("disk.img", as_disk(b"two"))
    desk.publish()
    assert len(amazon.snapshots) == 1
    desk.deregister()
    fail_at(amazon, operation, amazon.count(operation))
    with pytest.raises(CloudError):
        desk.publish()
    assert len(amazon.snapshots) == 1
    desk.deregister()
    assert amazon.snapshots == {}


def test_prune_keeps_the_newest_and_what_runs(
    begin_at_amazon: Begin, amazon: StrictAmazon, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = begin_at_amazon(more="keep: 2\n")
    known = []
    for number in range(5):
        desk.write("disk.img", as_disk(b"%d" % number))
        known.append(desk.publish())
    amazon.instances = {"i-1": (known[0], "running"), "i-2": (known[1], "terminated")}
    amazon.images["ami-other"] = replace(amazon.images[known[0]], id="ami-other", tags={"made-by": "somebody"})
    capsys.readouterr()
    prune.run(desk.cloud)
    assert set(amazon.images) == {known[0], known[3], known[4], "ami-other"}
    assert len(amazon.snapshots) == 3
    assert f"2 taken back, 3 kept, {known[2]}, {known[1]}" in capsys.readouterr().out
    prune.run(desk.cloud)
    assert "0 taken back, 3 kept" in capsys.readouterr().out


def test_prune_keeps_what_was_put_back(begin_at_amazon: Begin, amazon: StrictAmazon) -> None:
    desk = begin_at_amazon(more="keep: 1\n")
    first = desk.publish()
    desk.write("disk.img", as_disk(b"two"))
    desk.publish()
    desk.write("disk.img", as_disk(b"three"))
    newest = desk.publish()
    desk.write("disk.img", as_disk(b"one"))
    assert desk.publish() == first
    prune.run(desk.cloud)
    assert amazon.images.keys() == {first, newest}
    assert desk.publish() == first


def test_the_limits_of_the_recipe_hold(
    begin_at_amazon: Begin, amazon: StrictAmazon, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = begin_at_amazon(more="parallel: 2\nbandwidth_mib: 4096\ntimeout_seconds: 7\n")
    desk.write("disk.img", as_disk(os.urandom(4 * BLOCK)))
    crews, sent = [], []
    work, wait = crew.work_together, Bandwidth.wait_for

    def gather(items: Any, put: Any, workers: int, look: Any) -> None:
        crews.append(workers)
        work(items, put, workers, look)

    def note(bandwidth: Bandwidth, count: int) -> None:
        sent.append(count)
        wait(bandwidth, count)

    monkeypatch.setattr(ebs, "work_together", gather)
    monkeypatch.setattr(Bandwidth, "wait_for", note)
    amazon.choose_fault = lambda name, count: "500" if (name, count) == ("PutSnapshotBlock", 1) else None
    desk.publish()
    assert crews == [2]
    # What is sent again counts again.
    assert sent == [BLOCK] * 6 == [BLOCK] * amazon.count("PutSnapshotBlock")
    config = desk.target.connection.make_ebs().meta.config
    assert (config.read_timeout, config.connect_timeout, config.max_pool_connections) == (7, 7, 4)
    assert replace(desk.target, recipe=desk.cloud.recipe.model_copy(update={"parallel": None})).parallel == 32
