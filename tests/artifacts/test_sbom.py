"""The bill of materials: valid by the library's own judgement, and the same every time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sealing import EPOCH, PLAN
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from xenkiln.artifacts.sbom import make_id, make_package_url, render_sbom
from xenkiln.model.packages import Package, PackagePlan

TEXT = st.text(
    st.characters(codec="ascii", categories=["L", "N"], include_characters="+~.-:^_"), min_size=1, max_size=20
)


def make_package(name: str = "x", version: str = "1", arch: str = "amd64", sha256: str = "ab" * 32) -> Package:
    return Package(name, version, arch, sha256, 1, 1, "x", "x")


def find_faults(text: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "sbom.spdx.json"
    path.write_text(text)
    return [message.validation_message for message in validate_full_spdx_document(parse_file(str(path)))]


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_the_bill_is_valid(tmp_path: Path, kind: str) -> None:
    assert find_faults(render_sbom("guest", "debian", kind, PLAN), tmp_path) == []


def test_strange_names_and_versions_stay_valid(tmp_path: Path) -> None:
    packages = [
        make_package("g++", "4:12.2~rc1+b1"),
        make_package("libstdc++6", "1^git_1"),
        make_package("perl_x", "1", "noarch"),
    ]
    packages += [make_package("kernel", "2.6.18-92.el5"), make_package("kernel", "2.6.18-8.el5", sha256="cd" * 32)]
    assert find_faults(render_sbom("guest", "centos", "rpm", PackagePlan(EPOCH, tuple(packages))), tmp_path) == []


def test_a_broken_bill_would_be_noticed(tmp_path: Path) -> None:
    assert find_faults(
        render_sbom("guest", "debian", "deb", PLAN).replace('"SPDXRef-Image"', '"SPDXRef-Im_age"'), tmp_path
    )


def test_it_lists_every_package_with_its_checksum() -> None:
    bill = json.loads(render_sbom("guest", "debian", "deb", PLAN))
    listed = {(entry["name"], entry.get("versionInfo"), entry["checksums"][0]["checksumValue"])
              for entry in bill["packages"] if entry["name"] != "guest"}  # fmt: skip
    assert listed == {(package.name, package.version, package.sha256) for package in PLAN.packages}
    assert bill["creationInfo"]["created"] == "2023-11-14T22:13:20Z"
    contained = [entry for entry in bill["relationships"] if entry["relationshipType"] == "CONTAINS"]
    assert len(contained) == len(PLAN.packages)


def test_the_same_plan_gives_the_same_text_in_any_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    before = render_sbom("guest", "debian", "deb", PLAN)
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    assert render_sbom("guest", "debian", "deb", PLAN) == before
    monkeypatch.undo()
    time.tzset()


def test_another_plan_has_another_namespace() -> None:
    other = PackagePlan(EPOCH, PLAN.packages[1:])
    spaces = {json.loads(render_sbom("guest", "debian", "deb", plan))["documentNamespace"] for plan in (PLAN, other)}
    assert len(spaces) == 2


@pytest.mark.parametrize(
    ("package", "kind", "url"),
    [
        (make_package("zlib1g", "1:1.2.13-1"), "deb", "pkg:deb/debian/zlib1g@1%3A1.2.13-1?arch=amd64"),
        (make_package("g++", "12"), "deb", "pkg:deb/debian/g%2B%2B@12?arch=amd64"),
        (make_package("perl", "4:5.8.8-10.el5", "i386"), "rpm", "pkg:rpm/debian/perl@5.8.8-10.el5?arch=i386&epoch=4"),
        (make_package("bash", "3.2-21.el5", "i386"), "rpm", "pkg:rpm/debian/bash@3.2-21.el5?arch=i386"),
    ],
)
def test_package_urls_of_known_distributions(package: Package, kind: str, url: str) -> None:
    assert make_package_url(package, "debian", kind) == url


def test_a_package_url_without_a_known_distribution_names_none() -> None:
    assert (
        make_package_url(make_package("bash", "3.2-21.el5", "i386"), "", "rpm") == "pkg:rpm/bash@3.2-21.el5?arch=i386"
    )


@given(st.builds(make_package, TEXT, TEXT, TEXT))
def test_ids_have_only_the_characters_that_spdx_allows(package: Package) -> None:
    assert set(make_id(package).removeprefix("SPDXRef-")) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-"
    )
