"""Mirrors that are down, slow, truncate, lie or forget; locks; signatures. Real dnf, rpmkeys and gpg."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from repositories import (
    Answer,
    Rpm,
    SigningKey,
    build_rpm,
    forget,
    index_repository,
    lie,
    lie_about_index,
    make_context,
    make_key,
    make_repository,
    name_repository,
    select,
    serve,
    stall,
    truncate,
)

from xenkiln.errors import BuildError, CommandError
from xenkiln.installers import dnf, downloads
from xenkiln.model.packages import PackagePlan

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait hundredths of a second where a build waits seconds."""
    monkeypatch.setattr(downloads, "BACKOFF_SECONDS", (0.01, 0.01))
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.delenv("XENKILN_CACHE", raising=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rpms = [Rpm("alpha", {"/etc/alpha": "a\n"}, requires=("beta",)), Rpm("beta", {"/etc/beta": "b\n"})]
    return make_repository(tmp_path_factory.mktemp("mirror") / "base", rpms, {"base": ["alpha"]})


@pytest.fixture(scope="module")
def plan(base: Path, tmp_path_factory: pytest.TempPathFactory) -> PackagePlan:
    """A lock of the whole repository."""
    context = make_context(tmp_path_factory.mktemp("plan"))
    return dnf.resolve_packages(select([name_repository(base.as_uri())], groups=("base",)), context)


DEAD = "http://127.0.0.1:9/"  # the discard port: nothing listens
ANSWERS = [truncate, lie, stall, forget]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.__name__)
def test_the_second_mirror_is_used(base: Path, plan: PackagePlan, answer: Answer, tmp_path: Path) -> None:
    asked: list[str] = []
    with serve(base, answer, asked) as bad, serve(base) as good:
        files = dnf.fetch_packages(select([name_repository(bad, good)]), plan, make_context(tmp_path))
    assert [path.name for path in files] == [package.sha256 for package in plan.packages]
    assert any(path.endswith(".rpm") for path in asked)


@pytest.mark.parametrize(
    ("answer", "said"),
    [(truncate, "bytes came, "), (lie, "the checksum differs"), (stall, "timed out"), (forget, "404")],
    ids=["truncate", "lie", "stall", "forget"],
)
def test_a_bad_mirror_is_named_with_what_it_did(
    base: Path, plan: PackagePlan, answer: Answer, said: str, tmp_path: Path
) -> None:
    context = make_context(tmp_path)
    with serve(base, answer) as url, pytest.raises(BuildError) as caught:
        dnf.fetch_packages(select([name_repository(url)]), plan, context)
    text = str(caught.value)
    assert said in text
    assert f"{url}alpha-1.0-1.noarch.rpm" in text
    assert "alpha 1.0-1 noarch" in text
    assert "beta 1.0-1 noarch" in text
    assert not list((context.paths.cache / "packages").glob("*"))
    assert not (context.paths.cache / "fetching").exists()


def test_a_lock_names_all_that_is_gone_and_the_way_out(plan: PackagePlan, base: Path, tmp_path: Path) -> None:
    with serve(base, forget) as url, pytest.raises(BuildError, match="no mirror has these packages any more") as caught:
        dnf.fetch_packages(select([name_repository(url)]), plan, make_context(tmp_path))
    assert "doit lock:sample" in caught.value.next_step
    with pytest.raises(BuildError, match="any more") as caught:
        dnf.fetch_packages(select([name_repository((tmp_path / "empty").as_uri())]), plan, make_context(tmp_path))
    with pytest.raises(BuildError, match="no mirror gave") as caught:
        dnf.fetch_packages(select([name_repository(url, DEAD)]), plan, make_context(tmp_path))
    assert "check the network" in caught.value.next_step


def test_a_mirror_that_recovers_is_asked_again(base: Path, plan: PackagePlan, tmp_path: Path) -> None:
    refused: list[str] = []

    def stumble(mirror: object, path: str) -> bool:
        if path in refused:
            return False
        refused.append(path)
        mirror.send_error(503)  # type: ignore[attr-defined]
        return True

    with serve(base, stumble) as url:
        files = dnf.fetch_packages(select([name_repository(url)]), plan, make_context(tmp_path))
    assert len(files) == len(refused) == 2


def test_what_is_in_the_cache_is_not_fetched_again_unless_it_rotted(
    base: Path, plan: PackagePlan, tmp_path: Path
) -> None:
    context, asked = make_context(tmp_path), list[str]()
    with serve(base, None, asked) as url:
        wanted = select([name_repository(url)])
        files = dnf.fetch_packages(wanted, plan, context)
        asked.clear()
        assert dnf.fetch_packages(wanted, plan, context) == files
        assert asked == []
        whole = files[0].read_bytes()
        files[0].write_bytes(b"rotten")
        assert dnf.fetch_packages(wanted, plan, context) == files
        assert asked == [f"/{plan.packages[0].location}"]
        assert files[0].read_bytes() == whole


def test_a_lock_of_another_repository_is_refused(base: Path, plan: PackagePlan, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="does not have: base"):
        dnf.fetch_packages(select([name_repository(base.as_uri(), name="other")]), plan, make_context(tmp_path))


@pytest.mark.parametrize("answer", [None, lie_about_index])
def test_dnf_goes_on_to_the_second_mirror_for_an_index(base: Path, answer: Answer | None, tmp_path: Path) -> None:
    with serve(base, answer) as first, serve(base) as good:
        bad = first if answer else DEAD
        wanted = select([name_repository(bad, good)], groups=("base",))
        found = dnf.resolve_packages(wanted, make_context(tmp_path))
    assert [package.name for package in found.packages] == ["alpha", "beta"]


def test_a_mirror_without_an_answer_is_explained(tmp_path: Path) -> None:
    with pytest.raises(CommandError) as caught:
        dnf.resolve_packages(select([name_repository(DEAD)], install=("alpha",)), make_context(tmp_path))
    assert "127.0.0.1" in str(caught.value)
    assert "mirror cannot be reached" in caught.value.next_step


def test_a_lying_index_is_explained(base: Path, tmp_path: Path) -> None:
    with serve(base, lie_about_index) as url, pytest.raises(CommandError) as caught:
        dnf.resolve_packages(select([name_repository(url)], install=("alpha",)), make_context(tmp_path))
    assert "hecksum" in str(caught.value)
    assert "the mirror sent something else than its index promises" in caught.value.next_step


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[SigningKey, SigningKey]:
    folder = tmp_path_factory.mktemp("keys")
    return make_key(folder, "right"), make_key(folder, "wrong")


def make_signed(folder: Path, *keys: SigningKey | None) -> Path:
    """One package a key, in a repository."""
    for number, key in enumerate(keys):
        rpm = build_rpm(Rpm(f"p{number}", {f"/etc/p{number}": "text\n"}), folder)
        if key:
            key.sign(rpm)
    return index_repository(folder, {})


def fetch_signed(folder: Path, tmp_path: Path, *gpgkeys: Path) -> list[Path]:
    names = tuple(path.name.split("-")[0] for path in folder.glob("*.rpm"))
    wanted = select([name_repository(folder.as_uri(), gpgkeys=gpgkeys)], install=names, signatures="required")
    context = make_context(tmp_path / "build")
    return dnf.fetch_packages(wanted, dnf.resolve_packages(wanted, context), context)


def test_signed_packages_pass_with_the_right_keys(keys: tuple[SigningKey, SigningKey], tmp_path: Path) -> None:
    right, wrong = keys
    assert len(fetch_signed(make_signed(tmp_path / "one", right, right), tmp_path, right.public)) == 2
    both = make_signed(tmp_path / "both", right, wrong)
    assert len(fetch_signed(both, tmp_path, right.public, wrong.public)) == 2


def test_unsigned_and_strangely_signed_packages_are_refused(
    keys: tuple[SigningKey, SigningKey], tmp_path: Path
) -> None:
    right, wrong = keys
    folder = make_signed(tmp_path / "repo", right, wrong, None)
    with pytest.raises(BuildError, match="2 of 3 packages have no good signature") as caught:
        fetch_signed(folder, tmp_path, right.public)
    assert "p1 1.0-1 noarch: is signed by another key" in str(caught.value)
    assert "p2 1.0-1 noarch: is not signed" in str(caught.value)
    assert not list(tmp_path.glob("build/build/cache/packages/*")), "nothing unchecked is kept"


@pytest.mark.parametrize("place", ["header", "payload"])
def test_a_package_changed_after_signing_is_refused(
    place: str, keys: tuple[SigningKey, SigningKey], tmp_path: Path
) -> None:
    folder = make_signed(tmp_path / "repo", keys[0])
    rpm = folder / "p0-1.0-1.noarch.rpm"
    data = bytearray(rpm.read_bytes())
    where = data.index(b"A package of the tests") if place == "header" else len(data) - 20
    data[where] ^= 1
    rpm.write_bytes(data)
    # The mirror lies consistently: its index promises just this file.
    index_repository(folder, {})
    with pytest.raises((BuildError, CommandError)) as caught:
        fetch_signed(folder, tmp_path, keys[0].public)
    if place == "payload":
        assert "was changed after it was signed" in str(caught.value)


def test_the_hosts_own_keyring_does_not_count(keys: tuple[SigningKey, SigningKey], tmp_path: Path) -> None:
    right, wrong = keys
    folder = make_signed(tmp_path / "repo", wrong)
    database = tmp_path / "build" / "build" / "work" / "sample" / "home" / ".rpmdb"
    database.mkdir(parents=True)
    os.system(f"rpmkeys --dbpath {database} --import {wrong.public}")
    with pytest.raises(BuildError, match="is signed by another key"):
        fetch_signed(folder, tmp_path, right.public)


def test_a_file_that_is_no_key(keys: tuple[SigningKey, SigningKey], tmp_path: Path) -> None:
    folder = make_signed(tmp_path / "repo", keys[0])
    nonsense = tmp_path / "nonsense.asc"
    nonsense.write_text("no key at all\n")
    with pytest.raises(BuildError, match=r"nonsense.asc: is not a public key"):
        fetch_signed(folder, tmp_path, nonsense)


def test_required_signatures_need_keys(keys: tuple[SigningKey, SigningKey], tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no gpgkeys for repository base"):
        fetch_signed(make_signed(tmp_path / "repo", keys[0]), tmp_path)
