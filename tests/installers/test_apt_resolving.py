"""Resolving against a signed archive, with the real apt and mirrors that misbehave."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from debian_archive import EPOCH, Archive, make_signing_key, select
from mirrors import Mirror, hold_dead_port

from xenkiln.errors import BuildError, CommandError
from xenkiln.installers import mmdebstrap
from xenkiln.installers.contract import Selection
from xenkiln.model.distributions import DEBIAN_RELEASES
from xenkiln.model.packages import PackagePlan
from xenkiln.system.execution import Context


def resolve(selection: Selection, context: Context) -> PackagePlan:
    return mmdebstrap.resolve_packages(selection, context)


def names(plan: PackagePlan) -> list[str]:
    return [package.name for package in plan.packages]


def test_a_plan_has_what_the_variant_and_the_packages_need(mirror: Mirror, context: Context) -> None:
    plan = resolve(select(mirror.url), context)
    assert names(plan) == ["alpha", "apt", "beta", "libone", "server"]
    assert plan.epoch == EPOCH
    beta = plan.packages[2]
    assert (beta.version, beta.arch, beta.location, beta.origin) == (
        "1:2.0-1", "amd64", "pool/beta_2.0-1_amd64.deb", "main")  # fmt: skip


@pytest.mark.parametrize(("variant", "expected"), [
    ("essential", ["alpha", "libone", "server"]),
    ("apt", ["alpha", "apt", "libone", "server"]),
    ("important", ["alpha", "apt", "beta", "libone", "server"]),
])  # fmt: skip
def test_variants_differ(variant: str, expected: list[str], mirror: Mirror, context: Context) -> None:
    assert names(resolve(select(mirror.url, variant=variant), context)) == expected


def test_weak_dependencies_come_when_asked_for(mirror: Mirror, context: Context) -> None:
    assert "extra" in names(resolve(select(mirror.url, weak_dependencies=True), context))


def test_excluded_packages_stay_out(mirror: Mirror, context: Context) -> None:
    selection = select(mirror.url, weak_dependencies=True, exclude=("extra",))
    assert "extra" not in names(resolve(selection, context))


def test_an_unknown_package_is_named(mirror: Mirror, context: Context) -> None:
    with pytest.raises(CommandError, match="no-such-thing") as failure:
        resolve(select(mirror.url, install=("no-such-thing",)), context)
    assert "does not have it" in failure.value.next_step


def test_the_newest_date_of_all_suites_is_the_epoch(mirror: Mirror, archive: Archive, context: Context) -> None:
    archive.publish("bookworm-updates", epoch=EPOCH + 500)
    plan = resolve(select(mirror.url, suites=("bookworm", "bookworm-updates")), context)
    assert plan.epoch == EPOCH + 500


def test_the_same_package_in_two_archives_is_planned_once(mirror: Mirror, archive: Archive, context: Context) -> None:
    """A point release takes security updates over, the same bytes in another pool."""
    security = Archive(archive.folder.parent / "debian-security", archive.key)
    for package in ("libone", "server"):
        security.add(package, pool="pool/updates", **({"Depends": "libone", "Recommends": "extra"}
                                                      if package == "server" else {}))  # fmt: skip
    security.publish("bookworm-security", pool="pool/updates")
    selection = select(mirror.url, suites=("bookworm", "bookworm-security"))
    plan = resolve(selection, context)
    assert names(plan) == ["alpha", "apt", "beta", "libone", "server"]
    mmdebstrap.fetch_packages(selection, plan, context)


def test_security_updates_come_from_their_own_archive(mirror: Mirror, archive: Archive, context: Context) -> None:
    security = Archive(archive.folder.parent / "debian-security", archive.key)
    security.add("libone", "1.1", pool="pool/updates")
    security.publish("bookworm-security", pool="pool/updates")
    selection = select(mirror.url, suites=("bookworm", "bookworm-security"))
    plan = resolve(selection, context)
    libone = next(package for package in plan.packages if package.name == "libone")
    assert (libone.version, libone.origin) == ("1.1", "security")
    mmdebstrap.fetch_packages(selection, plan, context)
    assert "/debian-security/pool/updates/libone_1.1_all.deb" in mirror.requests


def test_an_unsigned_archive_is_refused(mirror: Mirror, archive: Archive, context: Context) -> None:
    archive.publish("bookworm", signed=False)
    with pytest.raises(CommandError, match="not signed") as failure:
        resolve(select(mirror.url), context)
    assert "packages.keyring" in failure.value.next_step


def test_a_signature_of_another_key_is_refused(mirror: Mirror, context: Context) -> None:
    with make_signing_key() as other:
        other.export(context.paths.recipes / "archive.gpg")
    with pytest.raises(CommandError, match=r"NO_PUBKEY|not signed"):
        resolve(select(mirror.url), context)


def test_a_changed_index_is_refused(mirror: Mirror, archive: Archive, context: Context) -> None:
    release = archive.folder / "dists/bookworm/InRelease"
    release.write_text(release.read_text().replace("Origin: Test", "Origin: Fake"))
    with pytest.raises(CommandError, match=r"BADSIG|not signed|invalid"):
        resolve(select(mirror.url), context)


@pytest.mark.parametrize("signed", [True, False])
def test_signatures_are_not_checked_when_the_recipe_says_so(
    signed: bool, mirror: Mirror, archive: Archive, context: Context
) -> None:
    archive.publish("bookworm", signed=signed)
    selection = select(mirror.url, signatures="not checked", keyring=None)
    assert "server" in names(resolve(selection, context))


def test_a_missing_keyring_is_named_before_the_mirror_is_asked(
    mirror: Mirror, context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keyring = tmp_path / "keyrings/debian-archive-keyring.gpg"
    release = DEBIAN_RELEASES["bookworm"]
    monkeypatch.setitem(DEBIAN_RELEASES, "bookworm", type(release)(**{**vars(release), "keyring": str(keyring)}))
    with pytest.raises(BuildError) as failure:
        resolve(select(mirror.url, keyring=None), context)
    assert failure.value.place == str(keyring)
    assert "apt-get install debian-archive-keyring" in failure.value.next_step
    assert mirror.requests == []


def test_all_mirrors_down_says_so(context: Context, pauses: list[float]) -> None:
    with hold_dead_port() as dead, pytest.raises(CommandError) as failure:
        resolve(select(dead), context)
    assert "cannot be reached" in failure.value.next_step
    assert pauses == [2.0, 4.0]


@pytest.mark.parametrize("how", ["unavailable", "refusing", "truncating", "stalling"])
def test_an_index_that_comes_badly_once_is_asked_for_again(
    how: str, mirror: Mirror, context: Context, pauses: list[float]
) -> None:
    mirror.misbehave("*/InRelease", how, times=1)  # type: ignore[arg-type]
    assert "server" in names(resolve(select(mirror.url), context))


def test_the_log_says_which_mirror_failed(mirror: Mirror, context: Context) -> None:
    with hold_dead_port() as dead:
        resolve(select(dead, mirror.url), context)
    assert context.runner.log is not None
    assert re.search(r"^# mirror 1 failed", context.runner.log.read_text(), re.MULTILINE)


@pytest.mark.parametrize(("field", "line"), [
    ("SHA256", "SHA256: ../../../../etc/passwd\n"), ("Filename", "Filename: ../../x.deb\n"),
    ("Installed-Size", "Installed-Size: many\n"), ("SHA256", "")])  # fmt: skip
def test_an_index_with_something_else_in_it_is_refused(
    field: str, line: str, mirror: Mirror, archive: Archive, context: Context
) -> None:
    stanzas = archive.stanzas["pool"]
    archive.stanzas["pool"] = [re.sub(rf"(?m)^{field}: .*\n", line, stanza) for stanza in stanzas]
    archive.publish("bookworm")
    with pytest.raises(BuildError, match=r"the repository.s index holds (no|an impossible)"):
        resolve(select(mirror.url), context)
