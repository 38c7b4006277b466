"""Real dnf and rpm, from real small repositories into a real root."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from repositories import (
    EPOCH,
    Rpm,
    index_repository,
    make_context,
    make_repository,
    name_repository,
    select,
    wrap_programs,
    wrap_shell,
)

from xenkiln.errors import BuildError, CommandError
from xenkiln.installers import dnf
from xenkiln.installers.contract import Selection
from xenkiln.model.packages import PackagePlan
from xenkiln.system.execution import Context, run_steps
from xenkiln.system.mounts import mount_overlay
from xenkiln.system.steps import Do, Release

pytestmark = pytest.mark.root

Installed = list[tuple[str, str, str]]


def install(selection: Selection, context: Context, plan: PackagePlan | None = None) -> Installed:
    """Run an installer's whole life; returns what the guest lists."""
    plan = plan or dnf.resolve_packages(selection, context)
    files = dnf.fetch_packages(selection, plan, context)
    repository, root = context.paths.work / "packages", context.paths.root
    repository.mkdir(parents=True)
    dnf.make_repository(selection, plan, files, repository, context)
    root.mkdir()
    found: Installed = []
    look = Do("look", lambda context: found.extend(dnf.read_installed(selection, root, context)))
    run_steps([*dnf.make_bootstrap_steps(selection, repository, root), look, Release()], context)
    assert found == [(package.name, package.version, package.arch) for package in plan.packages]
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A group with a script in it, a dependency with an epoch, and packages nobody asks for."""
    folder = tmp_path_factory.mktemp("mirror") / "base"
    rpms = (
        wrap_shell(),
        Rpm("alpha", {"/etc/alpha": "alpha\n"}, requires=("beta", "shell"), post="echo made >/etc/by-script"),
        Rpm("beta", {"/etc/beta": "beta\n"}, epoch=2),
        Rpm("beta", {"/etc/beta": "beta\n"}, epoch=2, version="0.9"),
        Rpm("extra", {"/etc/extra": "extra\n"}),
        Rpm("unasked", {"/etc/unasked": "unasked\n"}),
        Rpm("clash", {"/etc/alpha": "mine\n"}),
        Rpm("broken", requires=("nothing-has-this",)),
        Rpm("failing", {"/etc/failing": "x\n"}, requires=("shell",), post="echo oh no; exit 3"),
    )
    return make_repository(folder, rpms, {"base": ["alpha"], "all": ["unasked"]})


def list_files(root: Path) -> set[str]:
    return {f"/{path.relative_to(root)}" for path in root.rglob("*") if not path.is_dir()}


def test_group_dependencies_and_packages_are_installed_and_nothing_else(base: Path, tmp_path: Path) -> None:
    context = make_context(tmp_path / "a folder")
    installed = install(select([name_repository(base.as_uri())], groups=("base",), install=("extra",)), context)
    assert [" ".join(entry) for entry in installed] == [
        "alpha 1.0-1 noarch", "beta 2:1.0-1 noarch", "extra 1.0-1 noarch", "shell 1.0-1 x86_64"]  # fmt: skip
    root = context.paths.root
    assert (root / "etc/by-script").read_text() == "made\n"
    ours = {path for path in list_files(root) if not path.startswith(("/lib", "/bin"))}
    assert ours == {"/etc/alpha", "/etc/beta", "/etc/extra", "/etc/by-script", "/var/lib/rpm/rpmdb.sqlite"}
    assert (root / "var/lock/rpm").is_dir()
    assert not (root / "etc/dnf").exists()
    assert not (root / "var/lib/dnf").exists()


def test_a_recipe_without_groups_and_with_a_version(base: Path, tmp_path: Path) -> None:
    wanted = select([name_repository(base.as_uri())], install=("beta=0.9",))
    assert install(wanted, make_context(tmp_path)) == [("beta", "2:0.9-1", "noarch")]


def test_excluded_packages_stay_out(base: Path, tmp_path: Path) -> None:
    wanted = select([name_repository(base.as_uri())], groups=("base",), exclude=("alpha",), install=("extra",))
    assert install(wanted, make_context(tmp_path)) == [("extra", "1.0-1", "noarch")]


def test_the_epoch_is_the_newest_date_of_the_repositories(base: Path, tmp_path: Path) -> None:
    newer = index_repository(make_repository(tmp_path / "newer", [Rpm("late")], {}), {}, "--revision", "1300000000")
    both = [name_repository(base.as_uri()), name_repository(newer.as_uri(), name="newer")]
    context = make_context(tmp_path)
    assert dnf.resolve_packages(select(both, install=("extra",)), context).epoch == 1_300_000_000
    assert dnf.resolve_packages(select(both[:1], install=("extra",)), context).epoch == EPOCH


def test_weak_dependencies_only_when_asked(tmp_path: Path) -> None:
    rpms = [Rpm("strong", weak=("soft",)), Rpm("soft")]
    source = name_repository(make_repository(tmp_path / "repo", rpms, {}).as_uri())
    names = []
    for weak in (False, True):
        wanted = select([source], install=("strong",), weak_dependencies=weak)
        plan = dnf.resolve_packages(wanted, make_context(tmp_path))
        names.append([package.name for package in plan.packages])
    assert names == [["strong"], ["soft", "strong"]]


def test_an_index_that_knows_only_sha1(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "repo", [Rpm("old", {"/etc/old": "old\n"})], {}, "--checksum", "sha")
    context = make_context(tmp_path)
    wanted = select([name_repository(folder.as_uri())], install=("old",))
    plan = dnf.resolve_packages(wanted, context)
    assert plan.packages[0].sha256 == hashlib.sha256((folder / plan.packages[0].location).read_bytes()).hexdigest()
    install(wanted, context, plan)


@pytest.mark.parametrize("release", ["5.2", "9"])
def test_packages_of_a_32_bit_guest_come_with_a_32_bit_machine(release: str, tmp_path: Path) -> None:
    rpms = [Rpm("thing", {"/etc/thing": arch}, arch=arch) for arch in ("i686", "x86_64")]
    folder = make_repository(tmp_path / "repo", rpms, {})
    wanted = select([name_repository(f"{folder.parent.as_uri()}/$basearch")], arch="i386", release=release,
                    install=("thing",))  # fmt: skip
    folder.rename(folder.with_name("i386"))
    assert install(wanted, make_context(tmp_path)) == [("thing", "1.0-1", "i686")]


@pytest.mark.parametrize(
    ("groups", "names", "said"),
    [
        (("base",), ("no-such-thing",), "no-such-thing"),
        (("bass",), ("extra",), "bass"),
        ((), ("broken",), "nothing provides nothing-has-this"),
    ],
)
def test_what_no_repository_has_is_named(
    base: Path, tmp_path: Path, groups: Sequence[str], names: Sequence[str], said: str
) -> None:
    wanted = select([name_repository(base.as_uri())], groups=groups, install=names)
    with pytest.raises((BuildError, CommandError)) as caught:
        dnf.resolve_packages(wanted, make_context(tmp_path))
    assert said in str(caught.value)
    assert "next: " in str(caught.value)


def test_a_file_conflict_is_refused_and_explained(base: Path, tmp_path: Path) -> None:
    wanted = select([name_repository(base.as_uri())], groups=("base",), install=("clash",))
    context = make_context(tmp_path)
    with pytest.raises(CommandError) as caught:
        install(wanted, context)
    assert "/etc/alpha conflicts" in str(caught.value)
    assert "clash" in str(caught.value)
    assert not (context.paths.root / "etc/alpha").exists()
    mounted = Path("/proc/self/mountinfo").read_text()
    assert str(context.paths.root) not in mounted


def test_a_failing_script_is_told(base: Path, tmp_path: Path) -> None:
    told: list[str] = []
    context = make_context(tmp_path)
    context.tell = told.append
    install(select([name_repository(base.as_uri())], install=("failing",)), context)
    assert any("scriptlet failed" in line for line in told)
    assert any("1/2 shell" in line for line in told)


def test_the_host_configuration_stays_out(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "caller"
    home.mkdir()
    (home / ".rpmmacros").write_text("%_dbpath /caller\n")
    monkeypatch.setenv("HOME", str(home))
    hostile = Path("/etc/yum.repos.d/xenkiln-test.repo")
    made = not hostile.parent.exists()
    hostile.parent.mkdir(exist_ok=True)
    hostile.write_text("[hostile]\nname=hostile\nbaseurl=file:///no/such/folder\nenabled=1\n")
    try:
        context = make_context(tmp_path)
        install(select([name_repository(base.as_uri())], install=("extra",)), context)
    finally:
        hostile.unlink()
        if made:
            hostile.parent.rmdir()
    assert context.runner.log is not None
    assert "hostile" not in context.runner.log.read_text()
    assert not list(tmp_path.rglob("caller/*rpmdb*"))


def test_what_this_host_sets_for_rpm_does_not_reach_the_image(tmp_path: Path) -> None:
    files = {"/usr/share/doc/alpha/README": "read me\n", "/usr/share/locale/nl/LC_MESSAGES/alpha.mo": "hallo\n",
             "/etc/alpha": "a\n"}  # fmt: skip
    source = name_repository(make_repository(tmp_path / "repo", [Rpm("alpha", files)], {}).as_uri())
    hostile = tmp_path / "hostile"
    (hostile / "rpm").mkdir(parents=True)
    (hostile / "rpm/macros").write_text("%_excludedocs 1\n%_install_langs de\n")
    (hostile / "rpm/macros.more").write_text("%_minimize_writes 1\n")
    databases = []
    for lower in ([hostile, Path("/etc")], []):
        context = make_context(tmp_path / f"{len(lower)}")
        with ExitStack() as stack:
            if lower:  # seen by this process alone: the host's own /etc is not written to
                stack.enter_context(mount_overlay(context.runner, lower, None, Path("/etc")))
                stack.callback(context.run, ["umount", "/etc/rpm"], accept=(0, 1, 32))
                assert context.read(["rpm", "-E", "%_excludedocs"]) == "1\n"
            install(select([source], install=("alpha",)), context)
        assert {path: (context.paths.root / path[1:]).read_text() for path in files} == files
        databases.append(read_database(context, "/var/lib/rpm"))
    assert databases[0] == databases[1]


def read_database(context: Context, folder: str) -> bytes:
    files = list((context.paths.root / folder.lstrip("/")).iterdir())
    assert [path.name for path in files] == ["rpmdb.sqlite"], "no -wal, -shm or lock is left"
    return files[0].read_bytes()


def test_two_installations_leave_the_same_database(base: Path, tmp_path: Path) -> None:
    databases = []
    for name in ("one", "a second one"):
        context = make_context(tmp_path / name)
        install(select([name_repository(base.as_uri())], groups=("base",)), context)
        databases.append(read_database(context, "/var/lib/rpm"))
    assert databases[0] == databases[1]
    install_times = context.read(["rpm", "--root", context.paths.root, "--dbpath", "/var/lib/rpm", "-qa", "--qf",
                                  "%{INSTALLTID} "]).split()  # fmt: skip
    assert set(install_times) == {str(EPOCH)}


def wrap_rpm(dbpath: str) -> Rpm:
    """The host's rpm as a guest's own one, which keeps its database elsewhere."""
    host = Path("/usr/lib/rpm")
    wrapped = wrap_programs("rpm", {"/usr/bin/rpm": "rpm"}, requires=("shell",))
    copies = {**wrapped.copies, "/usr/lib/rpm/rpmrc": host / "rpmrc", "/usr/lib/rpm/macros": host / "macros"}
    shared = {path: source for path, source in copies.items() if path not in wrap_shell().copies}
    return Rpm("rpm", {"/etc/rpm/macros": f"%_dbpath {dbpath}\n"}, shared, requires=("shell",), arch="x86_64")


@pytest.mark.parametrize("dbpath", ["/var/lib/rpm", "/usr/lib/sysimage/rpm"])
def test_the_database_is_where_the_guests_own_rpm_looks(dbpath: str, tmp_path: Path) -> None:
    rpms = [wrap_shell(), wrap_rpm(dbpath), Rpm("alpha", {"/etc/alpha": "a\n"})]
    source = name_repository(make_repository(tmp_path / "repo", rpms, {}).as_uri())
    databases = []
    for name in ("one", "two"):
        context = make_context(tmp_path / name)
        install(select([source], install=("rpm", "alpha")), context)
        databases.append(read_database(context, dbpath))
    assert databases[0] == databases[1]
    others = [path for path in (context.paths.root / "var/lib").rglob("rpmdb*") if dbpath not in str(path)]
    assert others == []


def test_a_filesystem_package_meets_what_is_mounted(tmp_path: Path) -> None:
    filesystem = Rpm("filesystem", links={"/var/lock": "../run/lock"},
                     folders=("/proc", "/sys", "/dev", "/run", "/var/cache/yum", "/srv"))  # fmt: skip
    source = name_repository(make_repository(tmp_path / "repo", [filesystem], {}).as_uri())
    context = make_context(tmp_path)
    install(select([source], install=("filesystem",)), context)
    root = context.paths.root
    assert (root / "var/lock").is_symlink()
    assert (root / "srv").stat().st_mode & 0o777 == 0o555
    assert (root / "var/cache/yum").is_dir(), "an empty folder that a package owns stays"
    assert all((root / name).is_dir() and not any((root / name).iterdir()) for name in ("proc", "sys", "dev", "run"))


def test_a_guest_whose_rpm_cannot_read_the_database_writes_its_own(tmp_path: Path) -> None:
    # A dash wrapper plays the old rpm: blind for what it did not write itself, strict about its options.
    blind = (
        "#!/bin/sh\n"
        'for word; do case "$word" in\n'
        "--justdb|--nodeps|--noscripts|--notriggers|--nosignature|--ignorearch|--ignoresize|--replacefiles) ;;\n"
        "-i|-qa|-E|--qf|/mnt/*|%*) ;;\n"
        '*) echo "$word: unknown option"; exit 1 ;;\nesac; done\n'
        'case "$1" in -qa) [ -f /var/lib/rpm/mine ] || { echo "rpmdb: unexpected file type or format"; exit 1; } ;;\n'
        "-i) : >/var/lib/rpm/mine ;;\nesac\n"
        'exec /usr/bin/real-rpm "$@"\n'
    )
    real = wrap_rpm("/var/lib/rpm")
    copies = {path.replace("/usr/bin/rpm", "/usr/bin/real-rpm"): source for path, source in real.copies.items()}
    rpm = Rpm("rpm", {**real.files, "/usr/bin/rpm": blind}, copies, requires=("shell",), arch="x86_64")
    source = name_repository(make_repository(tmp_path / "repo", [wrap_shell(), rpm], {}).as_uri())
    databases = []
    for name in ("one", "two"):
        context = make_context(tmp_path / name)
        assert len(install(select([source], install=("rpm",)), context)) == 2
        folder = context.paths.root / "var/lib/rpm"
        assert {path.name for path in folder.iterdir()} == {"mine", "rpmdb.sqlite"}
        assert not (context.paths.root / "mnt").exists(), "the place where the packages were shown is gone"
        databases.append((folder / "rpmdb.sqlite").read_bytes())
    assert databases[0] == databases[1]
