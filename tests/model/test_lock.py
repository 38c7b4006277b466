from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xenkiln.errors import RecipeError
from xenkiln.model.lock import dump_lock, dump_plan, parse_lock, parse_plan
from xenkiln.model.packages import Package, PackagePlan

PACKAGE = Package("libc6", "2.36-9", "amd64", "a" * 64, 10, 20, "pool/libc6.deb", "main")
words = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+~^:-]{0,12}", fullmatch=True)
places = st.lists(words | st.sampled_from([".", "a b", "\u00e9", "..."]), min_size=1, max_size=4).map("/".join)
packages = st.builds(
    Package,
    name=words,
    version=words,
    arch=words,
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    size=st.integers(0, 1 << 40),
    installed_kib=st.integers(0, 1 << 30),
    location=places,
    origin=words,
)


plans = st.lists(packages, max_size=5, unique_by=lambda package: package.full_name)


@given(epoch=st.integers(0, 4_000_000_000), found=plans)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lock_and_plan_read_back_what_was_written(tmp_path: Path, epoch: int, found: list[Package]) -> None:
    plan = PackagePlan(epoch, tuple(sorted(found)))
    lock = tmp_path / "x.lock.yaml"
    lock.write_text(dump_lock(plan, "x"), encoding="utf-8")
    assert parse_lock(lock) == plan
    assert parse_plan(dump_plan(plan), place="x") == plan


def test_one_package_a_line_so_that_a_diff_shows_what_moved() -> None:
    other = dataclasses.replace(PACKAGE, name="zlib1g")
    lines = dump_lock(PackagePlan(0, (PACKAGE, other)), "x").splitlines()
    assert [line for line in lines if "zlib1g" in line] == [lines[-1]]
    assert "1970-01-01T00:00:00+00:00" in lines[0]


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (("version: 1", "version: 2"), "it is not of version 1"),
        (('"sha256": "aaa', '"sha256": "AAA'), "package libc6: sha256 is not 64 hexadecimal digits"),
        (('"size": 10', '"size": "10"'), "package libc6: size"),
        (('"name"', '"nome"'), "package None: name"),
        (("epoch: 0", "epoch: x"), "invalid literal"),
        (("packages:", "packages: ["), "x.lock.yaml:"),
        (("epoch: 0", "epoch: -1"), "epoch: -1 is not in 0..4294967295"),
        (("epoch: 0", "epoch: 4294967296"), "epoch: 4294967296 is not in 0..4294967295"),
        (('"size": 10', '"size": -10'), "package libc6: a size below 0"),
        (('"name": "libc6"', '"name": "../../../libc6"'), "impossible package"),
        (('"name": "libc6"', '"name": "--help"'), "impossible package"),
        (('"name": "libc6"', '"name": ""'), "impossible package"),
        (('"version": "2.36-9"', '"version": "2/../../9"'), "impossible package"),
        (('"version": "2.36-9"', r'"version": "2\n"'), "impossible package"),
        (('"arch": "amd64"', '"arch": "amd64/x"'), "impossible package"),
        (('"location": "pool', '"location": "/pool'), "impossible package"),
        (('"location": "pool', '"location": "../pool'), "impossible package"),
        (('"location": "pool/', '"location": "pool/../'), "impossible package"),
        (('"location": "pool/', r'"location": "pool/\u001b'), "impossible package"),
        (('"location": "pool/libc6.deb"', '"location": ""'), "impossible package"),
        (('"origin": "main"', '"origin": "../main"'), "origin: '../main' is not a repository's name"),
    ],
)
def test_a_wrong_lock_is_refused_by_name(tmp_path: Path, change: tuple[str, str], fact: str) -> None:
    lock = tmp_path / "x.lock.yaml"
    text = dump_lock(PackagePlan(0, (PACKAGE,)), "x")
    assert change[0] in text
    lock.write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"x\.lock\.yaml") as caught:
        parse_lock(lock)
    assert fact in str(caught.value)


def test_a_package_is_listed_once(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock.yaml"
    other = dataclasses.replace(PACKAGE, sha256="b" * 64)
    lock.write_text(dump_lock(PackagePlan(0, (PACKAGE, other)), "x"), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"two entries are the package libc6 2\.36-9 amd64"):
        parse_lock(lock)
