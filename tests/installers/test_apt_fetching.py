"""Fetching what was planned, with the real apt and mirrors that misbehave."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from debian_archive import EPOCH, Archive, select
from mirrors import Mirror, hold_dead_port, serve_mirror

from xenkiln.errors import BuildError, CommandError
from xenkiln.installers import apt, mmdebstrap
from xenkiln.installers.contract import Selection
from xenkiln.model.packages import PackagePlan
from xenkiln.system.execution import Context


def resolve(selection: Selection, context: Context) -> PackagePlan:
    return mmdebstrap.resolve_packages(selection, context)


def fetch(selection: Selection, plan: PackagePlan, context: Context) -> list[Path]:
    return mmdebstrap.fetch_packages(selection, plan, context)


def test_what_is_fetched_is_in_the_cache_in_the_order_of_the_plan(mirror: Mirror, context: Context) -> None:
    selection = select(mirror.url)
    plan = resolve(selection, context)
    files = fetch(selection, plan, context)
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in files] == [p.sha256 for p in plan.packages]
    assert mirror.count_requests("*.deb") == len(plan.packages)


def test_cached_packages_need_no_network(mirror: Mirror, context: Context) -> None:
    selection = select(mirror.url)
    plan = resolve(selection, context)
    fetch(selection, plan, context)
    mirror.requests.clear()
    files = fetch(selection, plan, context)
    assert len(files) == len(plan.packages)
    assert mirror.requests == []


def test_locked_versions_are_fetched_though_newer_ones_are_there(
    mirror: Mirror, archive: Archive, context: Context
) -> None:
    selection = select(mirror.url)
    locked = resolve(selection, context)
    archive.add("server", "2.0", Depends="libone")
    archive.publish("bookworm", epoch=EPOCH + 86400)
    mirror.requests.clear()
    fetch(selection, locked, context)
    assert "/debian/pool/server_1.0_all.deb" in mirror.requests
    assert mirror.count_requests("*Release") == 0
    newer = resolve(selection, context)
    assert ("server", "2.0") in [(package.name, package.version) for package in newer.packages]
    assert newer.epoch == EPOCH + 86400


def test_a_lying_mirror_is_refused_and_nothing_is_cached(
    mirror: Mirror, context: Context, pauses: list[float]
) -> None:
    selection = select(mirror.url)
    plan = resolve(selection, context)
    mirror.misbehave("*/server_*.deb", "lying")
    with pytest.raises(CommandError, match="Hash Sum mismatch") as failure:
        fetch(selection, plan, context)
    assert "the mirror sent something else than its index promises" in failure.value.next_step
    server = next(package for package in plan.packages if package.name == "server")
    assert not (context.paths.cache / "packages" / server.sha256).exists()
    assert mirror.count_requests("*/server_*.deb") == apt.ATTEMPTS
    assert mirror.count_requests("*/libone_*.deb") == 1, "what came well is not fetched again"


def test_a_second_mirror_helps_where_the_first_lies(mirror: Mirror, archive: Archive, context: Context) -> None:
    plan = resolve(select(mirror.url), context)
    mirror.misbehave("*/server_*.deb", "lying")
    with serve_mirror(archive.folder.parent) as second:
        fetch(select(mirror.url, second.url), plan, context)
        assert second.requests == ["/debian/pool/server_1.0_all.deb"]


def test_a_truncating_mirror_is_tried_again(mirror: Mirror, context: Context, pauses: list[float]) -> None:
    selection = select(mirror.url)
    plan = resolve(selection, context)
    mirror.misbehave("*/server_*.deb", "truncating", times=1)
    fetch(selection, plan, context)
    assert mirror.count_requests("*/server_*.deb") == 2


def test_a_mirror_that_always_truncates_fails(mirror: Mirror, context: Context) -> None:
    selection = select(mirror.url)
    plan = resolve(selection, context)
    mirror.misbehave("*/server_*.deb", "truncating")
    with pytest.raises((CommandError, BuildError)):
        fetch(selection, plan, context)
    assert not any("partial" in path.name for path in (context.paths.cache / "packages").iterdir())


def test_what_a_kill_left_half_fetched_is_fetched_again(mirror: Mirror, context: Context) -> None:
    selection = select(mirror.url)
    plan = resolve(selection, context)
    half = apt.state_folder(context) / "archives" / plan.packages[0].sha256
    half.write_bytes(b"half of it")
    fetch(selection, plan, context)
    assert mirror.count_requests("*.deb") == len(plan.packages)


def test_packages_that_are_gone_are_all_named(mirror: Mirror, archive: Archive, context: Context) -> None:
    selection = select(mirror.url)
    plan = resolve(selection, context)
    for name in ("server_1.0_all.deb", "libone_1.0_all.deb"):
        (archive.folder / "pool" / name).unlink()
    with pytest.raises(BuildError) as failure:
        fetch(selection, plan, context)
    assert failure.value.fact.splitlines()[1:] == ["  libone 1.0 all", "  server 1.0 all"]
    assert "doit lock:img" in failure.value.next_step


def test_a_missing_file_is_no_reason_to_wait(mirror: Mirror, context: Context, pauses: list[float]) -> None:
    selection = select(mirror.url)
    plan = resolve(selection, context)
    mirror.misbehave("*/server_*.deb", "missing")
    with pytest.raises(BuildError, match=r"server 1\.0 all"):
        fetch(selection, plan, context)
    assert pauses == []


def test_the_second_mirror_is_used_when_the_first_is_down(
    mirror: Mirror, context: Context, pauses: list[float]
) -> None:
    with hold_dead_port() as dead:
        selection = select(dead, mirror.url)
        fetch(selection, resolve(selection, context), context)
    assert pauses == [2.0, 4.0, 2.0, 4.0]


def test_a_slow_mirror_is_waited_for(mirror: Mirror, context: Context) -> None:
    mirror.misbehave("*", "slow")
    selection = select(mirror.url, install=("libone",), variant="essential")
    assert len(fetch(selection, resolve(selection, context), context)) == 2


def test_a_silent_mirror_is_given_up(
    mirror: Mirror, archive: Archive, context: Context, pauses: list[float]
) -> None:
    # A number is no answer of the mirror, be it a version's, a port's or part of a digest.
    archive.add("server", "1.404", Depends="libone")
    archive.publish("bookworm")
    selection = select(mirror.url)
    plan = resolve(selection, context)
    mirror.misbehave("*/server_*.deb", "stalling")
    with pytest.raises(CommandError, match=r"timed out|[Tt]imeout"):
        fetch(selection, plan, context)
    assert mirror.count_requests("*/server_*.deb") == apt.ATTEMPTS
    assert pauses == [2.0, 4.0]
