"""What a release cannot take is said before anything is sent, and where it can be before anything is built."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from publishing.amazon_site import as_disk, as_filesystem
from publishing.conftest import Begin
from publishing.site import FILES, Site
from xenkiln.clouds.store import Store, Stored
from xenkiln.commands import bundle, publish, register, upload
from xenkiln.errors import BuildError, CloudError, HostError, XenkilnError
from xenkiln.model.cloud import CloudRecipe, DialectName
from xenkiln.model.loader import load_recipe
from xenkiln.model.publish import Publish
from xenkiln.publishing.limits import require_fit
from xenkiln.publishing.subject import Role

GIB = 1 << 30


def with_publish(site: Site, **section: Any) -> Site:
    files: dict[Role, Path] = {"root": site.images / "disk.img"}
    files = files if section.get("virtualization") == "hvm" else site.subject.files
    return replace(site, subject=replace(site.subject, publish=Publish(**section), files=files))


def without_bucket(site: Site, tmp_path: Path) -> Site:
    path = tmp_path / "mine.yaml"
    path.write_text(path.read_text().replace("bucket: images\n", ""))
    return replace(site, cloud=load_recipe(path, CloudRecipe))


@pytest.mark.parametrize(("name", "bucket", "words"), [
    ("guitar", "images", "takes 'itar' in root-guitar for a file's ending\n  next: give the recipe another name"),
    ("tar", "images", "takes '-tar' in"), ("x-tgz", "images", "takes 'tgz' in"),
    ("tiny", "tarballs", "bucket tarballs: eucalyptus-1.4 takes '/tar' in tarballs"),
    ("tiny", "bucket-star", "takes 'star' in bucket-star for a file's ending\n  next: use another bucket"),
])  # fmt: skip
def test_names_that_the_oldest_release_cannot_keep(name: str, bucket: str, words: str, begin: Begin) -> None:
    site = with_publish(begin("1.4"), bucket=bucket)
    site = replace(site, subject=replace(site.subject, name=name))
    with pytest.raises(HostError, match=words.replace("root-", "[a-z]+-")):
        publish.check(site.subject, site.cloud)
    assert site.list_requests("") == []
    # A bundle in a folder can be for anybody.
    bundle.check(site.subject, site.cloud)


def test_later_releases_keep_them(begin: Begin) -> None:
    site = with_publish(begin("2.0"), bucket="tarballs")
    publish.check(replace(site.subject, name="guitar"), site.cloud)
    assert site.target.store.list_objects("tarballs", "") == {}


EIGHT_GIB = 8 << 30


def grow(path: Path, size: int) -> None:
    with path.open("rb+") as stream:
        stream.truncate(size)


def check_refused(site: Site, fact: str, short: str) -> None:
    """Neither a publish nor an upload of the kernel sends anything."""
    with pytest.raises(HostError, match=fact):
        site.publish()
    bundle.run(site.subject, site.cloud, "kernel")
    with pytest.raises(HostError, match=short):
        upload.run(site.subject, site.cloud, "kernel")
    assert site.count_parts_sent() == 0


@pytest.mark.parametrize("profile", ["3.4", "4.4"])
def test_an_image_that_is_too_large_is_refused_before_its_kernel_is_sent(profile: str, begin: Begin) -> None:
    site = begin(profile)
    grow(site.images / "root.img", 31 * GIB)
    publish.check(site.subject, site.cloud)
    fact = r"root\.img is 31\.0 GiB, and eucalyptus-\S+ takes 30\n.*disks\.root\.size"
    check_refused(site, fact, "takes 30")


def test_what_no_plain_archive_holds_is_refused_before_the_kernel_is_sent(begin: Begin) -> None:
    site = begin("1.4")
    grow(site.images / "root.img", EIGHT_GIB)
    words = "takes less than 8, for it reads plain tar archives alone\n  next: make disks.root.size_mib smaller"
    check_refused(site, rf"root\.img is 8\.0 GiB, and eucalyptus-1\.4 {re.escape(words)}", "takes less than 8")
    grow(site.images / "root.img", EIGHT_GIB - 1)
    require_fit(site.subject, site.target)


@pytest.mark.parametrize(("profile", "large", "fits"), [
    ("1.4", 8 << 10, (8 << 10) - 1), ("4.4", (30 << 10) + 1, 30 << 10), ("2.0", 0, 100 << 10),
])  # fmt: skip
def test_what_will_be_too_large_is_refused_before_it_is_built(
    profile: str, large: int, fits: int, begin: Begin
) -> None:
    site = begin(profile)
    for command in (bundle, publish):
        if large:
            with pytest.raises(HostError, match=r"disks\.root is (8|30)\.0 GiB, and eucalyptus-\S+ takes "):
                command.check(replace(site.subject, planned_mib=large), site.cloud)
            assert site.list_requests("") == []
        command.check(replace(site.subject, planned_mib=fits), site.cloud)
    assert site.subject.planned_mib == 96


def test_files_that_are_there_already_are_looked_at_too(begin: Begin) -> None:
    site = begin("1.4")
    grow(site.images / "root.img", EIGHT_GIB)
    with pytest.raises(HostError, match=r"root\.img is 8\.0 GiB.*\n  next: make its filesystem smaller"):
        publish.check(replace(site.subject, is_built=False), site.cloud)
    assert site.list_requests("") == []


ALL_BYTES = sum(FILES.values()) + 4096
"""Of the three files, which hold nothing that could be compressed."""


def has(monkeypatch: pytest.MonkeyPatch, objects: dict[str, int]) -> None:
    stored = {name: Stored(size, "0") for name, size in objects.items()}
    monkeypatch.setattr(Store, "list_objects", lambda *_: stored)


def test_a_bucket_that_will_not_hold_it_all_is_named_before_anything_is_sent(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = begin("1.4")
    # The kernel would fit.
    has(monkeypatch, {"old.part.0": 5 * GIB - ALL_BYTES * 8 // 10})
    words = (r"the bucket images has 5119\.7 of the 5120 MiB that eucalyptus-1\.4 allows, and vmlinuz and initrd\.img"
             r" and root\.img will take about 0\.4\n  next: doit prune:mine, or use another bucket")  # fmt: skip
    with pytest.raises(HostError, match=words):
        site.publish()
    bundle.run(site.subject, site.cloud, "root")
    has(monkeypatch, {"old.part.0": 5 * GIB - 200_000})
    with pytest.raises(HostError, match=r"and root\.img will take about 0\.3"):
        upload.run(site.subject, site.cloud, "root")
    assert site.count_parts_sent() == 0


def test_what_is_there_of_the_image_itself_is_not_counted_twice(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    site = begin("1.4")
    root = site.subject.list_components()[-1].name
    has(monkeypatch, {"old.part.0": 5 * GIB - ALL_BYTES - 10_000, f"{root}.part.0": 250_000})
    monkeypatch.setattr("xenkiln.commands.publish.send_stream", _stop)
    with pytest.raises(InterruptedError):
        site.publish()


def test_a_bucket_is_looked_at_before_and_made_when_something_is_sent(begin: Begin) -> None:
    site = begin("1.4")
    publish.check(site.subject, site.cloud)
    upload.check(site.subject, site.cloud)
    assert list_buckets(site) == []
    site.publish()
    assert list_buckets(site) == ["images"]
    publish.check(site.subject, site.cloud)
    assert not [name for name in site.target.store.list_objects("images", "") if "probe" in name]


def list_buckets(site: Site) -> list[str]:
    return [each["Name"] for each in site.target.connection.s3.list_buckets()["Buckets"]]


def test_one_bucket_too_many_is_refused_before_the_build(begin: Begin) -> None:
    site = begin("1.4")
    for number in range(5):
        publish.check(site.subject, site.cloud)
        site.target.store.open_bucket(f"bucket-{number}")
    words = r"bucket images: there is no such bucket, and you have 5, .*\n  next: use one of bucket-0, .*, bucket-4: is"
    with pytest.raises(CloudError, match=words):
        publish.check(site.subject, site.cloud)
    publish.check(with_publish(site, bucket="bucket-3").subject, site.cloud)


def begin_with(site: Site, dialect: DialectName) -> Site:
    recipe = site.cloud.recipe.model_copy(update={"dialect": dialect})
    return replace(site, cloud=replace(site.cloud, recipe=recipe))


@pytest.mark.parametrize(("dialect", "is_taken"), [("eucalyptus-3.3", True), ("eucalyptus-4.0", False)])
def test_from_4_0_on_a_kernel_and_a_ramdisk_are_wanted(dialect: DialectName, is_taken: bool, begin: Begin) -> None:
    site = begin_with(begin("3.4"), dialect)
    files: dict[Role, Path] = {role: file for role, file in site.subject.files.items() if role != "ramdisk"}
    publish.check(site.subject, site.cloud)
    asked = site.list_requests("")
    site = replace(site, subject=replace(site.subject, files=files))
    if is_taken:
        publish.check(site.subject, site.cloud)
        return
    with pytest.raises(HostError, match=r"eucalyptus-4\.0 takes no paravirtual image without a kernel and a ramdisk"):
        publish.check(site.subject, site.cloud)
    assert site.list_requests("") == asked


def _stop(*_: object) -> int:
    raise InterruptedError


@pytest.mark.parametrize(("profile", "section", "words"), [
    ("1.4", {"virtualization": "hvm"}, "eucalyptus-1.4 runs no hvm guests\n  next: publish: {virtualization: para"),
    ("2.0", {"virtualization": "hvm"}, "eucalyptus-2 runs no hvm guests"),
    ("4.4", {"virtualization": "hvm", "boot_mode": "uefi"}, "boot_mode is Amazon's\n  next: leave it out"),
    ("4.4", {"virtualization": "hvm", "ena": False}, "ena is Amazon's\n  next: leave it out"),
])  # fmt: skip
def test_what_a_release_does_not_have(profile: str, section: dict[str, Any], words: str, begin: Begin) -> None:
    site = with_publish(begin(profile), **section)
    with pytest.raises(HostError, match=re.escape(words)):
        publish.check(site.subject, site.cloud)
    assert site.list_requests("") == []


def test_a_missing_bucket_is_told_with_everything_else(begin: Begin, tmp_path: Path) -> None:
    site = without_bucket(begin("1.4"), tmp_path)
    with pytest.raises(HostError, match=r"into which bucket the kernel goes\n  next: publish: \{bucket: NAME\}"):
        publish.check(site.subject, site.cloud)
    site = with_publish(site, buckets={"kernel": "kernels", "ramdisk": "ramdisks"})
    with pytest.raises(HostError, match="into which bucket the root goes"):
        publish.check(site.subject, site.cloud)
    path = tmp_path / "mine.yaml"
    path.write_text(re.sub("eucarc: [^}]+", "region: nowhere", path.read_text()))
    site = replace(with_publish(site, virtualization="hvm"), cloud=load_recipe(path, CloudRecipe))
    with pytest.raises(XenkilnError) as caught:
        publish.check(site.subject, site.cloud)
    said = str(caught.value)
    assert said.startswith("tiny cannot be published at mine:\n- ")
    assert all(words in said for words in ("runs no hvm guests", "into which bucket the root goes", "nowhere"))


@pytest.mark.parametrize("profile", ["3.4", "4.4"])
def test_a_disk_is_registered_for_hvm_where_that_is_known(profile: str, begin: Begin) -> None:
    site = with_publish(begin(profile), virtualization="hvm")
    write(site, "disk.img", as_disk(b"hvm"))
    publish.check(site.subject, site.cloud)
    # It comes as far as the one who would run it: the lab's Xen is in qemu, and has no hvm.
    with pytest.raises(CloudError, match=r"Value \(hvm\) for parameter VirtualizationType is not what this lab's Xen"):
        site.publish()
    assert [name.partition("-")[0] for name in site.target.store.list_objects("images", "")] == ["root"] * 2


def test_the_labs_own_cloud_says_before_that_it_has_no_hvm(begin: Begin, tmp_path: Path) -> None:
    site = with_publish(begin("4.4"), virtualization="hvm")
    path = tmp_path / "lab.yaml"
    path.write_text("summary: The lab's\ndialect: eucalyptus-4.2\nembedded: true\nbucket: images\n")
    with pytest.raises(HostError, match="the lab's own cloud runs no hvm guests"):
        publish.check(site.subject, load_recipe(path, CloudRecipe))


def write(site: Site, name: str, data: bytes) -> None:
    (site.images / name).write_bytes(data.ljust(3 << 20, b"\0"))
    sums = site.images / "SHA256SUMS"
    sums.write_text(f"{sums.read_text()}{'0' * 64}  {name}\n")


@pytest.mark.parametrize(("virtualization", "name", "data", "words"), [
    ("hvm", "disk.img", as_filesystem(b""), "a bare ext filesystem, and an HVM instance boots a disk"),
    ("hvm", "disk.img", as_disk(b"", b""), "no boot loader: a BIOS finds nothing to boot"),
    ("paravirtual", "root.img", as_disk(b""), "and a paravirtual instance is given a bare filesystem"),
    ("paravirtual", "root.img", b"\xfd7zXZ\0", "not raw but xz"),
])  # fmt: skip
def test_a_kind_that_does_not_boot_so_is_refused_before_anything_is_sent(
    virtualization: str, name: str, data: bytes, words: str, begin: Begin
) -> None:
    site = with_publish(begin("4.4"), virtualization=virtualization)
    write(site, name, data)
    with pytest.raises(BuildError, match=rf"tiny\.yaml: publish: the image is .*{re.escape(words)}"):
        site.publish()
    assert site.count_parts_sent() == 0
    assert site.records.read("registered") == {}


def test_kernels_whose_root_filesystems_never_came_are_taken_back_too(begin: Begin) -> None:
    site = begin("3.4")
    site.publish()
    for number in range(3):
        site.change("vmlinuz", b"kernel %d" % number)
        for command in (bundle, upload, register):
            command.run(site.subject, site.cloud, "kernel")
    assert len([image for image in site.target.compute.list_images() if image.id.startswith("eki")]) == 4
    site.deregister()
    assert [image.id for image in site.target.compute.list_images() if image.state == "available"] == []
    assert site.target.store.list_objects("images", "") == {}
