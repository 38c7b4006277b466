"""`publish.reproducible`: the same bytes give the same parts; and no key and iv is ever for two archives."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from publishing.conftest import Begin
from publishing.site import Site
from xenkiln.publishing import bundling
from xenkiln.publishing.bundling import Bundle
from xenkiln.publishing.component import open_bundle
from xenkiln.publishing.sending import take_secret
from xenkiln.system.files import allocated_bytes


def fill_holes(path: Path) -> None:
    """The same bytes, and zeros where there were holes."""
    data, before = path.read_bytes(), allocated_bytes(path)
    path.write_bytes(data)
    assert allocated_bytes(path) > before


def make_parts(site: Site) -> tuple[str, bytes]:
    """Key and iv of the root filesystem's bundle, and its parts."""
    bundle, made = open_root(site), bytearray()
    secret = bundle.choose_secret()
    bundle.make_parts(secret, lambda _, data: made.extend(data))
    return secret.key.hex() + secret.iv.hex(), bytes(made)


def open_root(site: Site) -> Bundle:
    return open_bundle(site.subject, "root", site.target)


def pin(site: Site) -> Site:
    publish = site.subject.publish.model_copy(update={"reproducible": True})
    return replace(site, subject=replace(site.subject, publish=publish))


@pytest.mark.parametrize("profile", ["1.4", "2.0", "4.4"])
def test_the_same_bytes_give_the_same_parts_wherever_there_are_holes(profile: str, begin: Begin) -> None:
    site = pin(begin(profile))
    sparse = make_parts(site)
    fill_holes(site.images / "root.img")
    assert make_parts(site) == sparse
    other = replace(site, subject=replace(site.subject, name="other"))
    # Of the archive's member, that is: its name is another one.
    shutil.copytree(site.images, site.images.with_name("other"))
    assert make_parts(other)[0] != sparse[0]


def test_a_sparse_archive_of_a_large_image_has_a_key_of_its_own(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundling, "LARGEST_PLAIN_BYTES", 1 << 20)
    site = pin(begin("4.4"))
    assert open_root(site).lay_out().is_sparse
    sparse = make_parts(site)
    assert make_parts(site) == sparse
    fill_holes(site.images / "root.img")
    full = make_parts(site)
    assert full[0][:32] != sparse[0][:32]
    assert full[0][32:] != sparse[0][32:]


def test_a_stream_goes_on_with_its_key_only_where_it_is_the_same_archive(begin: Begin) -> None:
    site = begin("4.4")
    begun = take_secret(open_root(site), site.records)
    assert take_secret(open_root(site), site.records) == begun
    fill_holes(site.images / "root.img")
    again = take_secret(open_root(site), site.records)
    assert again.key != begun.key
    assert again.iv != begun.iv
