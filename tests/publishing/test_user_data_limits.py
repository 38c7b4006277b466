"""How much user-data the oldest release can be told: in an address, which its server reads no more of than so much."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from publishing.conftest import Begin
from publishing.site import Site
from xenkiln.commands import launch, publish, userdata
from xenkiln.errors import BuildError, CloudError, XenkilnError
from xenkiln.lab.cloud.instance_files import INSTANCES
from xenkiln.lab.cloud.profiles import PROFILES
from xenkiln.model.publish import Launch

LETTERS, MARKS = b"a", b"?"
"""In base64: the one has no sign that an address must escape, of the other every fourth is one."""


def with_user_data(site: Site, data: bytes, folder: Path, **section: object) -> Site:
    (folder / "data").write_bytes(data)
    section = {"user_data": "data", **section}
    return replace(site, subject=replace(site.subject, folder=folder, launch=Launch.model_validate(section)))


def list_checks(site: Site) -> list[Callable[[], object]]:
    return [lambda: publish.check(site.subject, site.cloud), lambda: launch.check(site.subject, site.cloud),
            lambda: userdata.run(site.subject, site.cloud), site.launch]  # fmt: skip


@pytest.mark.parametrize(("byte", "most"), [(LETTERS, 1800), (MARKS, 1200)])
def test_the_most_is_launched_and_a_byte_more_is_refused_before(
    byte: bytes, most: int, begin: Begin, tmp_path: Path
) -> None:
    site = with_user_data(begin("1.4"), byte * most, tmp_path)
    site.publish()
    instance = site.launch()
    assert find_user_data(site, instance) == byte * most
    assert site.list_requests(" POST ") == []
    site = with_user_data(site, byte * (most + 1), tmp_path)
    asked = len(site.list_requests(""))
    for check in list_checks(site):
        with pytest.raises(BuildError, match=rf"^data: {most + 1} bytes of user-data, which take 24\d\d characters of "
                           r"a request's address, and eucalyptus-1\.4 has room for 2400: 1800 bytes at the most\n"
                           r"  next: have it fetch the rest"):  # fmt: skip
            check()
    assert len(site.list_requests("")) == asked


def test_releases_that_take_a_form_take_all_of_it(begin: Begin, tmp_path: Path) -> None:
    site = with_user_data(begin("2.0"), MARKS * 16384, tmp_path)
    publish.check(site.subject, site.cloud)
    site.publish()
    assert find_user_data(site, site.launch()) == MARKS * 16384
    site = with_user_data(site, MARKS * 16385, tmp_path)
    for check in list_checks(site):
        with pytest.raises(BuildError, match="16385 bytes of user-data, and a cloud takes at most 16384"):
            check()


def test_a_request_that_is_too_long_for_other_reasons_is_not_sent(begin: Begin, tmp_path: Path) -> None:
    groups = tuple(f"group-{number}" for number in range(40))
    site = with_user_data(begin("1.4"), LETTERS * 1800, tmp_path, security_groups=groups)
    site.publish()
    with pytest.raises(CloudError, match=r"^RunInstances: \d{4} characters of a request, and this release takes an"
                       r" address with 3000\n  next: ask for less at once"):  # fmt: skip
        site.launch()
    assert site.list_requests("RunInstances") == []
    assert site.records.read("instance") == {}


def test_the_labs_cloud_reads_no_more_than_the_release_did(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    site = begin("1.4")
    assert PROFILES["1.4"].head_bytes == 4096
    monkeypatch.setattr("xenkiln.clouds.connection.LONGEST_QUERY", 1 << 20)
    with pytest.raises(CloudError, match="RequestEntityTooLarge"):
        site.target.compute.run("emi-12345678", {"UserData": LETTERS * 3000})
    assert len(site.list_requests(" 413 ")) >= 1


def find_user_data(site: Site, instance: str) -> bytes:
    record = site.server.index.find(INSTANCES, instance)
    assert record
    return base64.b64decode(record["user_data"])


def test_a_file_of_the_command_line_takes_the_place_of_the_recipes(begin: Begin, tmp_path: Path) -> None:
    site = with_user_data(begin("1.4"), b"of the recipe", tmp_path, variables={"word": "hello"})
    site.publish()
    file = tmp_path / "mine.sh"
    file.write_text("#!/bin/sh\necho {{ word }} {{ name }} {{ cloud }}\n")
    instance = site.launch(user_data_file=str(file))
    assert find_user_data(site, instance) == b"#!/bin/sh\necho hello tiny mine\n"
    assert site.launch() == instance
    with pytest.raises(BuildError, match=rf"{instance} is running already, and user-data is given to a new instance"
                       r" alone\n  next: doit terminate:tiny cloud=mine, then"):  # fmt: skip
        site.launch(user_data_file=str(file))
    site.terminate()
    assert find_user_data(site, site.launch()) == b"of the recipe"


@pytest.mark.parametrize(("data", "words"), [
    (LETTERS * 1801, "mine: 1801 bytes of user-data, which take"), (b"#!/bin/sh\n{{ word", "mine:2: "),
    (b"\xff\xfe", "mine:1: neither UTF-8 text nor gzip"),
    (None, "mine: cannot be read: No such file or directory\n  next: is it the file that you mean?"),
])  # fmt: skip
def test_it_is_looked_at_the_same_way(data: bytes | None, words: str, begin: Begin, tmp_path: Path) -> None:
    site = begin("1.4")
    if data is not None:
        (tmp_path / "mine").write_bytes(data)
    with pytest.raises(XenkilnError, match=re.escape(f"{tmp_path}/{words}")):
        site.launch(user_data_file=f"{tmp_path}/mine")
    assert site.list_requests("") == []
