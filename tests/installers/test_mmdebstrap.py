"""The local repository and what mmdebstrap is told; installing for real is proved by the build of Debian 12."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import FakeToolMaker
from debian_archive import select
from mirrors import Mirror

from xenkiln.errors import BuildError, HostError
from xenkiln.installers import mmdebstrap
from xenkiln.installers.cache import cache_file, link_files
from xenkiln.installers.contract import Selection
from xenkiln.model.packages import PackagePlan
from xenkiln.system import tools
from xenkiln.system.execution import Context
from xenkiln.system.processes import build_environment
from xenkiln.system.steps import Do, Run, Step, list_tools

ROOT = Path("/ROOT")
REPOSITORY = Path("/REPOSITORY")


@pytest.fixture
def planned(mirror: Mirror, context: Context) -> tuple[Selection, PackagePlan, list[Path]]:
    """A plan and its fetched files."""
    selection = select(mirror.url)
    plan = mmdebstrap.resolve_packages(selection, context)
    return selection, plan, mmdebstrap.fetch_packages(selection, plan, context)


Planned = tuple[Selection, PackagePlan, list[Path]]


def lay_out(planned: Planned, context: Context) -> Path:
    folder = context.paths.work / "packages"
    folder.mkdir(exist_ok=True)
    mmdebstrap.make_repository(*planned, folder, context)
    return folder


def test_the_repository_holds_the_plan_and_nothing_else(planned: Planned, context: Context) -> None:
    folder = lay_out(planned, context)
    assert {path.name for path in folder.iterdir()} == {
        "Packages", "alpha_1.0_amd64.deb", "apt_1.0_amd64.deb", "beta_1%3a2.0-1_amd64.deb", "libone_1.0_all.deb",
        "server_1.0_all.deb"}  # fmt: skip
    index = (folder / "Packages").read_text()
    assert re.findall("^Filename: (.+)$", index, re.MULTILINE) == [
        "./alpha_1.0_amd64.deb", "./apt_1.0_amd64.deb", "./beta_1%3a2.0-1_amd64.deb", "./libone_1.0_all.deb",
        "./server_1.0_all.deb"]  # fmt: skip
    assert str(context.paths.build) not in index


def test_files_are_copied_where_links_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    (tmp_path / "a").write_text("a")
    link_files([tmp_path / "a"], tmp_path, ["b"])
    assert (tmp_path / "b").read_text() == "a"


def test_a_damaged_cache_is_noticed_and_mended_by_the_next_run(
    planned: Planned, context: Context, mirror: Mirror
) -> None:
    selection, plan, files = planned
    damaged = cache_file(context.paths.cache, plan.packages[-1])
    damaged.write_bytes(files[0].read_bytes())
    with pytest.raises(BuildError, match=r"server 1\.0 all"):
        lay_out(planned, context)
    assert not damaged.exists()
    again = (selection, plan, mmdebstrap.fetch_packages(selection, plan, context))
    for path in (context.paths.work / "packages").iterdir():
        path.unlink()
    assert len(list(lay_out(again, context).glob("*.deb"))) == len(plan.packages)


def bootstrap_steps(**packages: object) -> list[Step]:
    return mmdebstrap.make_bootstrap_steps(select("http://m.example", **packages), REPOSITORY, ROOT)  # type: ignore[arg-type]


def find_command(steps: list[Step]) -> list[str]:
    (run,) = [step for step in steps if isinstance(step, Run)]
    argv = [str(word) for word in run.argv]
    return argv[argv.index("mmdebstrap") :]


@pytest.mark.parametrize(("variant", "included"), [
    ("essential", "server"), ("apt", "apt,server"), ("minbase", "apt,server"), ("important", "apt,server"),
])  # fmt: skip
def test_a_variant_installs_what_was_planned_for_it(variant: str, included: str) -> None:
    command = find_command(bootstrap_steps(variant=variant))
    assert f"--variant={variant}" in command
    assert f"--include={included}" in command


def test_it_installs_from_the_local_repository_alone() -> None:
    command = find_command(bootstrap_steps())
    assert command[-3:] == ["", str(ROOT), f"deb [trusted=yes] file://{REPOSITORY} ./"]
    assert not [word for word in command if "http" in word]


def test_recommended_packages_follow_the_recipe() -> None:
    assert '--aptopt=APT::Install-Recommends "false"' in find_command(bootstrap_steps())
    assert '--aptopt=APT::Install-Recommends "true"' in find_command(bootstrap_steps(weak_dependencies=True))


def test_no_ramdisk_is_made_by_the_kernels_package() -> None:
    (run,) = [step for step in bootstrap_steps() if isinstance(step, Run)]
    assert ("INITRD", "No") in run.env


def test_what_it_needs_is_known_before_the_first_change() -> None:
    assert {"mmdebstrap", f"{mmdebstrap.HOOKS}/setup00.sh"} <= list_tools(bootstrap_steps())


def test_a_tool_named_by_its_path_is_missed_and_its_package_named(tmp_path: Path) -> None:
    helper = "/usr/lib/apt/apt-helper"
    missing = tools.find_missing({helper, str(tmp_path / "none"), "apt-get"})
    assert missing == [str(tmp_path / "none")]
    assert isinstance(tools.missing_tools_error([helper]), HostError)
    assert "apt-get install apt " in tools.missing_tools_error([helper]).next_step


def test_the_callers_apt_configuration_reaches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APT_CONFIG", "/somewhere/apt.conf")
    assert "APT_CONFIG" not in build_environment({})


def test_what_the_installer_leaves_is_removed(tmp_path: Path) -> None:
    root, repository = tmp_path / "root", Path("/srv/build/work/img/packages")
    for name in ("etc/apt/apt.conf.d/99mmdebstrap", "etc/dpkg/dpkg.cfg.d/99mmdebstrap", "srv/www/index.html"):
        (root / name).parent.mkdir(parents=True)
        (root / name).touch()
    (root / str(repository).lstrip("/")).mkdir(parents=True)
    steps = mmdebstrap.make_bootstrap_steps(select("http://m.example"), repository, root)
    last = steps[-1]
    assert isinstance(last, Do)
    last.function(None)  # type: ignore[arg-type]  # it asks for nothing
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()) == [
        "srv/www/index.html"
    ]
    assert not (root / "srv/build").exists()


def test_progress_is_read_from_its_output(tmp_path: Path) -> None:
    (tmp_path / "Packages").write_text("Package: a\nSHA256: 1\n\nPackage: b\nSHA256: 2\n")
    read = mmdebstrap.ProgressReader(tmp_path / "Packages")
    assert read("I: installing essential packages...") == "installing essential packages"
    assert read("(Reading database ... 5%") is None
    assert read("Unpacking a:amd64 (2.36-9) ...") == "0 of 2 packages, unpacking a:amd64"
    assert read("Setting up a:amd64 (2.36-9) ...") == "1 of 2 packages, setting up a:amd64"


def test_only_what_is_really_installed_counts(
    context: Context, fake_tool: FakeToolMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tool("dpkg-query", r"printf 'ii \tb\t1\tall\nrc \tgone\t1\tall\niU \thalf\t1\tall\nii \ta\t1:2\tamd64\n'")
    monkeypatch.setattr("xenkiln.system.execution.enter_root", lambda root, words, seen: words)
    found = mmdebstrap.read_installed(select("http://m.example"), ROOT, context)
    assert found == [("a", "1:2", "amd64"), ("b", "1", "all")]


def test_the_plans_identity_is_its_packages_and_its_date(planned: Planned) -> None:
    _, plan, _ = planned
    assert replace(plan, epoch=plan.epoch + 1).identity != plan.identity
    assert replace(plan, packages=plan.packages[1:]).identity != plan.identity


@pytest.mark.parametrize("name", ["../alpha", "/tmp/alpha"])
def test_no_file_is_written_outside_the_repository(name: str, planned: Planned, context: Context) -> None:
    """Even for a plan that nobody checked."""
    selection, plan, files = planned
    hostile = replace(plan, packages=(replace(plan.packages[0], name=name), *plan.packages[1:]))
    with pytest.raises(BuildError, match="not a file's name"):
        lay_out((selection, hostile, files), context)
    assert not list(context.paths.work.rglob("alpha*"))


def test_what_lies_in_the_repository_is_not_written_through(planned: Planned, context: Context) -> None:
    victim = context.paths.work / "victim"
    victim.touch()
    folder = context.paths.work / "packages"
    folder.mkdir()
    (folder / "alpha_1.0_amd64.deb").symlink_to(victim)
    with pytest.raises(BuildError, match="the same file"):
        lay_out(planned, context)
    assert victim.read_bytes() == b""


@pytest.mark.parametrize("name", ["a blank", "a%20b", "a[b", "a#b", "a,b", 'a"b', "a\nb"])
@pytest.mark.parametrize("variable", ["XENKILN_BUILD", "XENKILN_RECIPES"])
def test_a_folder_that_apt_cannot_be_told_of_is_refused_early(variable: str, name: str, context: Context) -> None:
    strange = context.paths.recipes.parent / name
    strange.mkdir()
    (strange / "archive.gpg").touch()
    paths = context.paths
    paths = replace(paths, build=strange) if variable == "XENKILN_BUILD" else replace(paths, recipes=strange)
    (problem,) = mmdebstrap.find_problems(select("http://m.example"), paths)
    assert problem.place == str(strange)
    assert variable in problem.next_step


def test_a_plain_folder_is_no_problem(context: Context) -> None:
    paths = replace(context.paths, build=Path("/home/j\u00f6rg/x-1.0_~+/build"))
    assert mmdebstrap.find_problems(select("http://m.example"), paths) == []
