"""Images that were made elsewhere: published and launched like one's own, with the kernel and ramdisk they have."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from publishing.conftest import Begin
from publishing.site import Site, make_tiny
from xenkiln.commands import publish
from xenkiln.errors import BuildError, HostError, XenkilnError
from xenkiln.model.cloud import CloudRecipe
from xenkiln.model.loader import load_recipe
from xenkiln.model.prebuilt import PrebuiltRecipe
from xenkiln.publishing.subject import make_subject
from xenkiln.system.layout import PROJECT

PLAIN = """\
summary: Kernel and root, no ramdisk
arch: i386
kernel: vmlinuz-2.6.16.33-xen
root: ttylinux.img
publish:
  buckets: {kernel: kernel-bucket, root: image-bucket}
"""
BeginPrebuilt = Callable[..., Site]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "recipes" / "prebuilt"
    folder.mkdir(parents=True)
    (folder / "vmlinuz-2.6.16.33-xen").write_bytes(os.urandom(7000))
    (folder / "ttylinux.img").write_bytes(os.urandom(90_000))
    return folder


@pytest.fixture
def begin_prebuilt(begin: Begin, folder: Path) -> BeginPrebuilt:
    """Returns begin(profile, recipe): a site whose image nobody here has built."""

    def start(profile: str, text: str = PLAIN) -> Site:
        return with_recipe(begin(profile), folder, text)

    return start


def with_recipe(site: Site, folder: Path, text: str) -> Site:
    path = folder / "ttylinux.yaml"
    path.write_text(text)
    return replace(site, subject=make_subject(load_recipe(path, PrebuiltRecipe)))


def publish_all(site: Site) -> dict[str, str]:
    publish.check(site.subject, site.cloud)
    return site.publish()


def hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_digests(said: str) -> dict[str, str | None]:
    """What the guest's console tells of what it was booted from."""
    digests: dict[str, str | None] = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    return digests


@pytest.mark.parametrize("profile", ["1.4", "2.0", "3.4"])
def test_a_kernel_and_a_root_are_enough(
    profile: str, begin_prebuilt: BeginPrebuilt, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = begin_prebuilt(profile)
    ids = publish_all(site)
    assert {role: known[:4] for role, known in ids.items()} == {"kernel": "eki-", "root": "emi-"}
    assert [name.partition("-")[0] for name in site.target.store.list_objects("kernel-bucket", "")] == ["vmlinuz"] * 2
    assert [name.partition("-")[0] for name in site.target.store.list_objects("image-bucket", "")] == ["root"] * 2
    manifest = next(name for name in site.target.store.list_objects("image-bucket", "") if name.endswith(".xml"))
    text = site.target.store.get("image-bucket", manifest, 1 << 20).decode()
    assert "<architecture>i386</architecture>" in text
    assert "<device>sda1</device>" in text
    assert f"<kernel_id>{ids['kernel']}</kernel_id>" in text
    assert "ramdisk_id" not in text
    capsys.readouterr()
    assert publish_all(site) == ids
    assert capsys.readouterr().out.count("up to date") == 2
    site.launch()
    site.console()
    said = capsys.readouterr().out
    assert read_digests(said) == {"kernel": hash_file(folder / "vmlinuz-2.6.16.33-xen"), "ramdisk": None,
                                  "root": hash_file(folder / "ttylinux.img")}  # fmt: skip
    assert "root=/dev/sda1" in said
    site.terminate()
    site.deregister()
    assert site.target.store.list_objects("image-bucket", "") == {}


def test_a_release_that_wants_a_ramdisk_is_given_one_that_it_has(
    begin_prebuilt: BeginPrebuilt, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = begin_prebuilt("4.4")
    with pytest.raises(HostError, match=r"ttylinux\.yaml: eucalyptus-4\.2 takes no paravirtual image without a kernel"
                                        r" and a ramdisk\n  next: .*ramdisk_id: eri-"):  # fmt: skip
        publish.check(site.subject, site.cloud)
    assert site.list_requests("") == []
    theirs = replace(site, subject=make_tiny()).publish()
    with_ramdisk = with_recipe(site, folder, f"{PLAIN}  ramdisk_id: {theirs['ramdisk']}\n")
    ids = publish_all(with_ramdisk)
    assert set(ids) == {"kernel", "root"}
    with_ramdisk.launch()
    capsys.readouterr()
    with_ramdisk.console()
    digests = read_digests(capsys.readouterr().out)
    assert digests["ramdisk"] == hash_file(site.images / "initrd.img")
    assert digests["kernel"] == hash_file(folder / "vmlinuz-2.6.16.33-xen")
    # Both ids, and nothing but a root filesystem is sent.
    text = PLAIN.replace("kernel: vmlinuz-2.6.16.33-xen\n", "")
    named = f"{text}  kernel_id: {theirs['kernel']}\n  ramdisk_id: {theirs['ramdisk']}\n"
    assert set(publish_all(replace(with_recipe(site, folder, named), cloud=site.cloud))) >= {"root"}
    image = site.target.compute.find_image(with_ramdisk.records.read("registered")["root.id"])
    assert image
    assert (image.kernel_id, image.ramdisk_id) == (theirs["kernel"], theirs["ramdisk"])


@pytest.mark.parametrize("profile", ["1.4", "3.4"])
def test_a_kernel_of_the_cloud_takes_the_place_of_a_file(
    profile: str, begin_prebuilt: BeginPrebuilt, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = begin_prebuilt(profile)
    theirs = replace(site, subject=make_tiny()).publish()
    text = PLAIN.replace("kernel: vmlinuz-2.6.16.33-xen\n", "") + f"  kernel_id: {theirs['kernel']}\n"
    named = with_recipe(site, folder, text)
    assert set(publish_all(named)) == {"root"}
    named.launch()
    capsys.readouterr()
    named.console()
    assert read_digests(capsys.readouterr().out) == {
        "kernel": hash_file(site.images / "vmlinuz"), "ramdisk": None, "root": hash_file(folder / "ttylinux.img")
    }  # fmt: skip


def test_a_file_that_changes_is_another_image(begin_prebuilt: BeginPrebuilt, folder: Path) -> None:
    site = begin_prebuilt("3.4")
    old = publish_all(site)
    (folder / "ttylinux.img").write_bytes(b"another one")
    new = publish_all(site)
    assert new["kernel"] == old["kernel"]
    assert new["root"] != old["root"]
    (folder / "vmlinuz-2.6.16.33-xen").write_bytes(b"another kernel")
    newest = publish_all(site)
    assert newest["kernel"] != new["kernel"]
    assert newest["root"] not in (old["root"], new["root"])
    site.deregister()
    assert [image for image in site.target.compute.list_images() if image.state == "available"] == []
    assert site.target.store.list_objects("kernel-bucket", "") == {}


def test_paths_are_seen_from_the_recipe_from_home_or_from_the_top(
    begin_prebuilt: BeginPrebuilt, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("home/x/vmlinuz", "initrd", "recipes/root"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    monkeypatch.chdir(PROJECT)
    text = f"summary: x\nkernel: ~/x/vmlinuz\nramdisk: {tmp_path}/initrd\nroot: ../root\n"
    site = begin_prebuilt("2.0", text)
    assert [each.file.read_bytes() for each in site.subject.list_components()] == [
        b"home/x/vmlinuz", b"initrd", b"recipes/root"]  # fmt: skip
    assert set(publish_all(site)) == {"kernel", "ramdisk", "root"}


def test_files_that_are_missing_are_all_named_before_the_cloud_is_asked(
    begin_prebuilt: BeginPrebuilt, folder: Path
) -> None:
    site = begin_prebuilt("1.4", PLAIN.replace("vmlinuz-2", "vmlinuz-3").replace("ttylinux.img", "."))
    with pytest.raises(XenkilnError) as caught:
        publish.check(site.subject, site.cloud)
    said = str(caught.value)
    assert f"there is no such kernel: {folder}/vmlinuz-3.6.16.33-xen\n  next: put the file there" in said
    assert f"there is no such root: {folder}" in said
    assert site.list_requests("") == []


def test_the_shipped_recipe_says_what_is_to_be_unpacked_first(begin: Begin) -> None:
    site = begin("1.4")
    loaded = load_recipe(PROJECT / "recipes" / "prebuilt" / "euca-ttylinux.yaml", PrebuiltRecipe)
    with pytest.raises(XenkilnError, match=r"there is no such kernel: /root/ttylinux/vmlinuz-2\.6\.16\.33-xen"):
        publish.check(make_subject(loaded), site.cloud)


def test_the_shipped_recipe_goes_to_the_cloud_that_it_names(
    begin_prebuilt: BeginPrebuilt, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = (PROJECT / "recipes" / "prebuilt" / "euca-ttylinux.yaml").read_text()
    site = begin_prebuilt("1.4", shipped.replace("/root/ttylinux", str(folder)))
    named = load_recipe(PROJECT / "recipes" / "clouds" / f"{site.subject.publish.cloud}.yaml", CloudRecipe)
    assert named.recipe.embedded
    assert named.recipe.dialect == site.cloud.recipe.dialect
    publish.check(site.subject, named)
    assert set(publish_all(site)) == {"kernel", "root"}


@pytest.mark.parametrize(("data", "words"), [
    (b"\x1f\x8b\x08 and more", "not raw but gzip"), (b"QFI\xfb", "not raw but qcow2"),
    (bytes(446) + b"\x80\0\0\0\x83\0\0\0\1\0\0\0\1\0\0\0" + bytes(48) + b"\x55\xaa" + bytes(2000),
     "a disk with MBR, 1 partition and no boot loader, and a paravirtual instance is given a bare filesystem"),
], ids=["gzip", "qcow2", "disk"])  # fmt: skip
def test_what_an_instance_cannot_boot_from_is_refused_before_anything_is_sent(
    data: bytes, words: str, begin_prebuilt: BeginPrebuilt, folder: Path
) -> None:
    site = begin_prebuilt("2.0")
    (folder / "ttylinux.img").write_bytes(data)
    with pytest.raises(BuildError, match=rf"ttylinux\.yaml: publish: the image is {re.escape(words)}"):
        publish_all(site)
    assert site.count_parts_sent() == 0
