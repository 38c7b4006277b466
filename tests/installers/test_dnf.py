"""What needs no root: indexes of every form, downloads, and old yum by a stand-in that knows its own options only."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import lzma
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import FakeToolMaker
from hypothesis import given
from hypothesis import strategies as st
from repositories import EPOCH, Rpm, make_context, make_repository, name_repository, select

from xenkiln.errors import BuildError, HostError
from xenkiln.installers import dnf, downloads, rpm_metadata
from xenkiln.installers.downloads import Wanted
from xenkiln.installers.rpm_database import parse_identities
from xenkiln.model.packages import Package, PackagePlan
from xenkiln.system.commands import Runner


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rpms = [Rpm("alpha", {"/etc/alpha": "a\n"}, epoch=3), Rpm("beta", {"/etc/beta": "b\n"})]
    return make_repository(tmp_path_factory.mktemp("mirror") / "base", rpms, {"base": ["alpha"]}, "--database")


def copy_index(base: Path, folder: Path, kind: str, repack: Callable[[bytes], bytes], ending: str) -> Path:
    """A cache's folder with one form of the index."""
    folder.mkdir(parents=True)
    (source,) = base.glob(f"repodata/*-primary.{kind}.*")
    unpack = {".gz": gzip.decompress, ".bz2": bz2.decompress}[source.suffix]
    (folder / f"primary.{kind}{ending}").write_bytes(repack(unpack(source.read_bytes())))
    (folder / "repomd.xml").write_bytes((base / "repodata/repomd.xml").read_bytes())
    return folder


def pack_zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q"], input=data, check=True, capture_output=True).stdout


FORMS: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("xml", bytes, ""), ("xml", gzip.compress, ".gz"), ("xml", lzma.compress, ".xz"), ("sqlite", bz2.compress, ".bz2"),
    ("sqlite", bytes, ""), ("xml", pack_zstd, ".zst")]  # fmt: skip


@pytest.mark.parametrize(("kind", "repack", "ending"), FORMS)
def test_every_form_of_an_index_says_the_same(
    base: Path, tmp_path: Path, kind: str, repack: Callable[[bytes], bytes], ending: str
) -> None:
    index = copy_index(base, tmp_path / "index", kind, repack, ending)
    entries = {entry.identity: entry for entry in rpm_metadata.read_entries(index, Runner())}
    assert set(entries) == {("alpha", "3:1.0-1", "noarch"), ("beta", "1.0-1", "noarch")}
    alpha = entries["alpha", "3:1.0-1", "noarch"]
    file = base / alpha.location
    assert (alpha.size, alpha.installed_bytes) == (file.stat().st_size, 2)
    assert (alpha.algorithm, alpha.checksum) == ("sha256", hashlib.sha256(file.read_bytes()).hexdigest())
    assert rpm_metadata.read_date(index) == EPOCH


@pytest.mark.parametrize(
    ("revision", "stamps", "date"),
    [("8.5", ["1600000000", "1600000005.5"], 1_600_000_005), ("1700000000", ["1600000000"], 1_700_000_000),
     ("2", [], 0), ("today", [], 0)],
)  # fmt: skip
def test_the_date_of_a_repository(revision: str, stamps: list[str], date: int, tmp_path: Path) -> None:
    data = "".join(f"<data><timestamp>{stamp}</timestamp></data>" for stamp in stamps)
    text = f'<repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>{revision}</revision>{data}</repomd>'
    (tmp_path / "repomd.xml").write_text(text)
    assert rpm_metadata.read_date(tmp_path) == date


@pytest.mark.parametrize(
    ("old", "new"),
    [("<name>alpha</name>", "<name>../alpha</name>"), ('ver="1.0"', 'ver="1.0/../../x"'),
     ('href="alpha-1.0-1.noarch.rpm"', 'href="../../../etc/passwd"')],
)  # fmt: skip
def test_an_index_with_paths_in_it_is_refused(base: Path, tmp_path: Path, old: str, new: str) -> None:
    def spoil(data: bytes) -> bytes:
        assert old.encode() in data
        return data.replace(old.encode(), new.encode())

    index = copy_index(base, tmp_path / "index", "xml", spoil, "")
    with pytest.raises(BuildError, match="impossible package"):
        list(rpm_metadata.read_entries(index, Runner()))


def test_a_repository_without_an_index_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no index of repository base"):
        rpm_metadata.find_index(tmp_path, "base")
    (tmp_path / "base-extra-0123456789abcdef/repodata").mkdir(parents=True)
    (tmp_path / "base-extra-0123456789abcdef/repodata/repomd.xml").touch()
    with pytest.raises(BuildError, match="no index of repository base"):
        rpm_metadata.find_index(tmp_path, "base")


def test_imported_keys_are_no_packages() -> None:
    text = "zsh (none) 5.0 1 x86_64\ngpg-pubkey (none) 1 2 (none)\nbash 0 4.2 3 x86_64\nperl 4 5.8 1 i386\n"
    assert parse_identities(text) == [
        ("bash", "4.2-3", "x86_64"), ("perl", "4:5.8-1", "i386"), ("zsh", "5.0-1", "x86_64")]  # fmt: skip


def make_package(version: str = "1-1") -> Package:
    return Package("a", version, "noarch", "0" * 64, 1, 1, "a.rpm", "base")


@pytest.mark.parametrize(("version", "name"), [("1-1", "a-1-1.noarch.rpm"), ("2:1-1", "a-1-1.noarch.rpm")])
def test_a_file_is_named_as_rpm_names_it(version: str, name: str) -> None:
    assert dnf.name_file(make_package(version)) == name


@given(st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1))
def test_an_address_never_leaves_its_mirror(name: str) -> None:
    url = downloads.join_url("http://mirror.test/os", f"Packages/{name}")
    assert url.startswith("http://mirror.test/os/Packages/")
    assert url.isascii()
    assert not set(url) & set(" \n\t?#\"'")


def make_wanted(source: Path, target: Path) -> Wanted:
    data = source.read_bytes()
    return Wanted((source.as_uri(),), target, "sha256", hashlib.sha256(data).hexdigest(), len(data))


def test_a_full_disk_is_a_fact_about_this_host(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloads, "finish_file", fill)
    wanted = make_wanted(base / "alpha-1.0-1.noarch.rpm", tmp_path / "alpha")
    with pytest.raises(HostError, match="No space left on device") as caught:
        downloads.fetch_all([wanted], lambda done: None)
    assert "free some space" in caught.value.next_step


def test_every_file_is_counted(base: Path, tmp_path: Path) -> None:
    files = sorted(base.glob("*.rpm"))
    wanted = [make_wanted(file, tmp_path / file.name) for file in files]
    told: list[int] = []
    assert downloads.fetch_all(wanted, told.append) == []
    assert told == [1, 2]
    assert [item.target.read_bytes() for item in wanted] == [file.read_bytes() for file in files]
    assert downloads.fetch_all([], told.append) == []


# yum 3.2.22 of CentOS 5: it knows no --assumeno, --forcearch, --releasever, and ends when it is told no.
OLD_YUM = """\
root=
while [ $# -gt 0 ]; do
    case $1 in
    -c) conf=$2; shift ;;
    -d|-e|-R|-x) shift ;;
    -y|-C|-q|-v|-t) ;;
    --installroot=*) root=${{1#*=}} ;;
    --enablerepo=*|--disablerepo=*|--exclude=*|--noplugins|--nogpgcheck) ;;
    -*) echo "Command line error: no such option: $1" >&2; exit 1 ;;
    *) break ;;
    esac
    shift
done
[ -f "$conf" ] || exit 1
[ "$1" = install ] || exit 1
mkdir -p "$root/var/cache/yum/base"
cp '{index}'/* "$root/var/cache/yum/base/"
shift
echo "Resolving Dependencies"
for name; do case $name in
@base) echo "---> Package alpha.noarch 3:1.0-1 set to be updated" ;;
beta) echo "---> Package beta.noarch 0:1.0-1 set to be updated" ;;
*) echo "No package $name available."; exit 1 ;;
esac; done
printf 'Is this ok [y/N]: '
read -r answer
[ "$answer" = n ] || exit 9
echo "Exiting on user Command"
exit 1
"""


@pytest.fixture
def old_yum(base: Path, tmp_path: Path, fake_tool: FakeToolMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    index = copy_index(base, tmp_path / "index", "sqlite", bytes, "")
    tool = fake_tool("yum", OLD_YUM.format(index=index))
    monkeypatch.setattr("xenkiln.installers.yum_commands.find_tool", {"yum": str(tool.path)}.get)


def test_a_host_with_old_yum_only(base: Path, tmp_path: Path, old_yum: None) -> None:
    wanted = select([name_repository(base.as_uri())], groups=("base",), install=("beta",), release="5.2")
    context = make_context(tmp_path)
    plan = dnf.resolve_packages(wanted, context)
    assert [package.full_name for package in plan.packages] == ["alpha 3:1.0-1 noarch", "beta 1.0-1 noarch"]
    assert plan.epoch == EPOCH
    files = dnf.fetch_packages(wanted, plan, context)
    repository = tmp_path / "repository"
    repository.mkdir()
    dnf.make_repository(wanted, plan, files, repository, context)
    assert [path.name for path in sorted(repository.glob("*.rpm"))] == [
        "alpha-1.0-1.noarch.rpm", "beta-1.0-1.noarch.rpm"]  # fmt: skip
    assert (repository / "alpha-1.0-1.noarch.rpm").stat().st_ino == files[0].stat().st_ino, "no second copy"
    comps = (repository / "comps.xml").read_text()
    assert comps.count("<id>base</id>") == 1
    assert ">alpha<" in comps
    assert ">beta<" in comps


def test_old_yum_names_what_it_does_not_have(base: Path, tmp_path: Path, old_yum: None) -> None:
    wanted = select([name_repository(base.as_uri())], install=("gamma",), release="5.2")
    with pytest.raises(BuildError, match="the repositories have no gamma"):
        dnf.resolve_packages(wanted, make_context(tmp_path))


def test_a_repository_is_the_same_every_time(base: Path, tmp_path: Path) -> None:
    wanted = select([name_repository(base.as_uri())], groups=("base",))
    file = base / "alpha-1.0-1.noarch.rpm"
    plan = PackagePlan(EPOCH, (make_package(),))
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        dnf.make_repository(wanted, plan, [file], folder, make_context(tmp_path))
    one, two = ({path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()} for folder in folders)
    assert one == two
    assert not any(str(tmp_path).encode() in data for data in one.values())


def test_a_made_here_repository_has_to_be_made_first(tmp_path: Path) -> None:
    made = name_repository("http://mirror.test/").model_copy(update={"baseurls": (), "made_here": True})
    with pytest.raises(BuildError, match="has not been made yet") as caught:
        dnf.resolve_packages(select([made], install=("alpha",)), make_context(tmp_path))
    assert caught.value.next_step == "doit repository:sample"


@pytest.mark.parametrize("word", ["../a", "/tmp/a", "x/../../a"])
def test_no_file_is_written_outside_the_repository(word: str, base: Path, tmp_path: Path) -> None:
    """Even for a plan that nobody checked."""
    wanted = select([name_repository(base.as_uri())])
    folder = tmp_path / "repository/packages"
    folder.mkdir(parents=True)
    plan = PackagePlan(EPOCH, (replace(make_package(), name=word),))
    with pytest.raises(BuildError, match="not a file's name"):
        dnf.make_repository(wanted, plan, [base / "alpha-1.0-1.noarch.rpm"], folder, make_context(tmp_path))
    assert not list(tmp_path.rglob("*.rpm"))


def test_two_packages_never_share_a_file(base: Path, tmp_path: Path) -> None:
    """rpm leaves the epoch out of its files' names."""
    plan = PackagePlan(EPOCH, (make_package(), make_package("1:1-1")))
    files = [base / "alpha-1.0-1.noarch.rpm", base / "beta-1.0-1.noarch.rpm"]
    before = [file.read_bytes() for file in files]
    with pytest.raises(BuildError, match="the same file"):
        dnf.make_repository(select([name_repository(base.as_uri())]), plan, files, tmp_path, make_context(tmp_path))
    assert [file.read_bytes() for file in files] == before


def test_a_cache_that_cannot_be_written_is_told_as_what_it_is(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(downloads, "finish_file", refuse)
    wanted = make_wanted(base / "alpha-1.0-1.noarch.rpm", tmp_path / "alpha")
    with pytest.raises(HostError, match="Permission denied") as caught:
        downloads.fetch_all([wanted], lambda done: None)
    assert caught.value.place == str(tmp_path / "alpha")
    assert "space" not in caught.value.next_step


@pytest.mark.parametrize("fault", [OSError(errno.EHOSTUNREACH, "No route to host"), ssl.SSLError(1, "unexpected eof")])
def test_what_the_network_does_is_no_fault_of_the_disk(
    fault: OSError, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*words: object, **options: object) -> None:
        raise fault

    monkeypatch.setattr(downloads, "open_url", fail)
    monkeypatch.setattr(downloads, "BACKOFF_SECONDS", ())
    wanted = make_wanted(base / "alpha-1.0-1.noarch.rpm", tmp_path / "alpha")
    (failure,) = downloads.fetch_all([wanted], lambda done: None)
    assert str(fault.strerror) in failure.reasons[0]
    assert not failure.gone
