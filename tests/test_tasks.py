"""doit as the user meets it: what is listed, what a bare verb does, exit codes, and no traceback ever."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from doit_desk import DOIT, FORKSERVER, TINY, Desk

from xenkiln.actions import guard
from xenkiln.pipeline import CHAIN
from xenkiln.system.locks import hold_lock
from xenkiln.tasks import Description, list_forms

VERBS = ["build", *CHAIN, "plan", "lock", "verify", "diff", "shell", "boot", "lab", "lab-stop", "deploy", "bundle",
         "unbundle", "upload", "register", "publish", "launch", "console", "instances", "terminate", "deregister",
         "userdata", "keypair", "cloud", "prune", "doctor", "sweep"]


def make_desk(folder: Path) -> Desk:
    """A default recipe and another one."""
    desk = Desk(folder / "recipes", folder / "build")
    desk.recipes.mkdir()
    desk.write("tiny")
    desk.write("small", default="false", summary="A second one")
    return desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return make_desk(tmp_path)


def test_the_list_reads_as_a_table_of_contents(desk: Desk) -> None:
    lines = desk.succeed("list").splitlines()
    assert [line.split()[0] for line in lines] == VERBS
    for line in lines:
        text = line.split(maxsplit=1)[1]
        assert len(text) > 20, line
        assert not text.endswith((".", ":")), line
        assert len(line) <= 120, line


def test_everything_is_listed_by_verb_and_recipe(desk: Desk) -> None:
    lines = desk.succeed("list", "--all").splitlines()
    names = [line.split()[0] for line in lines]
    assert names[:4] == ["build", "build:small", "build:tiny", "build:all"]
    assert [name for name in names if name.startswith("diff")] == ["diff", "diff:small:tiny", "diff:tiny:small"]
    assert not [name for name in names if name.startswith("_")]
    assert lines[1].split(maxsplit=1)[1] == "A second one"


@pytest.fixture(scope="module")
def listed_lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What `doit list` says of the recipes that every desk has."""
    return make_desk(tmp_path_factory.mktemp("desk")).succeed("list").splitlines()


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_more_than_the_line_in_the_list(desk: Desk, listed_lines: list[str], verb: str) -> None:
    listed = next(line for line in listed_lines if line.startswith(f"{verb} "))
    help_lines = desk.succeed("help", verb).splitlines()
    assert help_lines[0].split(maxsplit=1)[1] == listed.split(maxsplit=1)[1]
    assert len(help_lines) >= 3
    if verb in ("keypair", "cloud", "prune"):
        assert re.search(rf"doit {verb} +lab$", "\n".join(help_lines), re.MULTILINE)
    elif verb not in ("diff", "doctor", "lab", "lab-stop", "sweep", "unbundle", "instances"):
        assert re.search(rf"doit {verb} +tiny$", "\n".join(help_lines), re.MULTILINE)
        form = rf"doit {verb}:NAME +one of small, tiny(, euca-ttylinux)?$"
        assert re.search(form, "\n".join(help_lines), re.MULTILINE)


def test_a_bare_verb_means_the_default_recipes(desk: Desk) -> None:
    assert "tiny" in (said := desk.succeed("plan"))
    assert "small" not in said
    assert "small" in desk.succeed("plan:small")
    assert {"small", "tiny"} <= set(re.findall(r"seal:(\w+)", desk.succeed("plan:all")))


@pytest.mark.parametrize("doit", [DOIT, FORKSERVER], ids=["fork", "forkserver"])
def test_two_at_once(desk: Desk, doit: tuple[str, ...]) -> None:
    said = desk.succeed("-n", "2", "plan:small", "plan:tiny", doit=doit)
    assert {"small", "tiny"} <= set(re.findall(r"seal:(\w+)", said))


@pytest.mark.parametrize(("word", "answer"), [
    ("build:tinny", "there is no recipe tinny; did you mean 'tiny'?"),
    ("plan:zzz", "there is no recipe zzz; known: small, tiny"),
    ("diff:tiny:smal", "there is no recipe smal; did you mean 'small'?"),
    ("diff:tinny", "there is no recipe tinny; did you mean 'tiny'?"),
    ("diff:tiny:all", "there is no recipe all; did you mean 'small'?"),
    ("diff:tiny", "two images are wanted, doit diff:A:B; known: small, tiny"),
    ("diff:tiny:tiny", "two images are wanted, doit diff:A:B; known: small, tiny"),
    ("diff:tiny:small:tiny", "two images are wanted, doit diff:A:B; known: small, tiny"),
    ("build:tiny:small", "one name is wanted; known: small, tiny"),
])  # fmt: skip
def test_a_name_that_is_none_gets_a_suggestion(desk: Desk, word: str, answer: str) -> None:
    assert desk.fail(word, code=3) == f"{word}: {answer}\n"
    assert answer in desk.fail("help", word, code=3)


def test_a_verb_that_is_none_is_refused(desk: Desk) -> None:
    assert "Traceback" not in desk.fail("biuld", code=3)


def test_a_broken_recipe_blocks_its_own_tasks_only(desk: Desk) -> None:
    path = desk.write("bad", memory_mib="lots", release='"99"')
    path.write_text(path.read_text() + "  no_such_key: 1\n")
    said = desk.fail("build:bad")
    line = path.read_text().splitlines().index("  no_such_key: 1") + 1
    assert f"{path}:{line}: boot.commands[0].no_such_key: " in said or f"{path}:{line}: boot.no_such_key: " in said
    assert "domain.memory_mib: " in said
    assert "domain.memory_mib: " in desk.fail("diff:tiny:bad")
    assert "domain.memory_mib: " in desk.fail("diff:bad:tiny")
    assert "seal:tiny" in desk.succeed("plan:tiny")
    assert re.search(r"^build:bad +this recipe has errors$", desk.succeed("list", "--all"), re.MULTILINE)


def test_a_recipe_called_all_is_told_why_it_cannot_be(desk: Desk) -> None:
    path = desk.write("all", default="false")
    fact = f"{path}: 'all' means every recipe and cannot be the name of one"
    assert fact in desk.fail("build:all.yaml")
    assert fact in desk.fail("plan:all")
    assert "seal:tiny" in desk.succeed("plan")
    assert "seal:small" in desk.succeed("plan:small")
    assert "plan:all.yaml" in desk.succeed("list", "--all")


@pytest.mark.parametrize("name", ["a=b", "a:b"])
def test_a_name_that_no_task_can_have_stops_nobody_else(desk: Desk, name: str) -> None:
    path = desk.write(name, default="false")
    assert f"{path}: the file's name is the recipe's name" in desk.fail("build:a?b")
    assert "seal:tiny" in desk.succeed("plan")


def test_what_the_family_cannot_do_is_told_with_its_line(desk: Desk) -> None:
    path = desk.write("odd", default="false", release='"99"')
    line = path.read_text().splitlines().index('release: "99"') + 1
    assert f"{path}:{line}: release: " in desk.fail("build:odd")
    desk.succeed("plan:tiny")


def test_a_broken_default_is_not_passed_over_in_silence(desk: Desk) -> None:
    desk.write("tiny", memory_mib="lots")
    assert "domain.memory_mib" in desk.fail("build")


def test_without_recipes_there_is_nothing_to_do_and_it_says_so(desk: Desk) -> None:
    shutil.rmtree(desk.recipes)
    assert f"{desk.recipes}: there are no recipes here" in desk.fail("list", code=3)


@pytest.mark.parametrize(("old", "new", "fact"), [
    ("hostname: tiny", "hostname: $(touch /tmp/x)", "configure.hostname"),
    ("hostname: tiny", "hostname: 'a;reboot'", "configure.hostname"),
    ("groups: [base]", "groups: [base, '--installroot=/']", "packages.groups[1]"),
    ("groups: [base]", "groups: [base]\n  install: ['x; rm -rf /']", "packages.install[0]"),
    ("device: xvda1", "device: ../../sda", "disks.root.device"),
    ("hostname: tiny", "hostname: tiny\n  files: [{path: /etc/../../etc/x, content: a}]", "configure.files[0].path"),
    ("hostname: tiny", "hostname: tiny\n  files: [{path: /etc/x, source: ../../etc/shadow}]",
     "configure.files[0].source"),
    ("hostname: tiny", "hostname: tiny\n  files: [{path: /etc/x, source: /etc/shadow}]", "configure.files[0].source"),
    ("hostname: tiny", "hostname: tiny\n  files: [{path: /etc/x, source: link}]", "configure.files[0].source"),
    ("hostname: tiny", "hostname: tiny\n  scripts: [{source: folder/link}]", "configure.scripts[0].source"),
    ("maker: busybox", "maker: ../../evil", "ramdisk.maker"),
    ("family: tiny", "family: os", "family"),
])  # fmt: skip
def test_a_hostile_recipe_is_refused_with_its_line_before_anything_runs(
    desk: Desk, old: str, new: str, fact: str
) -> None:
    assert old in TINY
    (desk.recipes / "link").symlink_to("/etc/shadow")
    (desk.recipes / "folder").symlink_to("/etc")
    path = desk.write("evil", TINY.replace(old, new))
    assert re.search(rf"^{re.escape(str(path))}:\d+: {re.escape(fact)}: ", desk.fail("build:evil"), re.MULTILINE)
    assert not (desk.build / "work").exists()


def test_a_hostile_template_cannot_reach_this_program(desk: Desk, tmp_path: Path) -> None:
    (desk.recipes / "x.j2").write_text(f"{{{{ cycler.__init__.__globals__.os.system('touch {tmp_path}/reached') }}}}")
    desk.write("evil", TINY.replace(
        "hostname: tiny", "hostname: tiny\n  files: [{path: /etc/x, template: x.j2}]"), default="false")  # fmt: skip
    assert "x.j2:1: " in desk.fail("build:evil")
    assert "x.j2:1: " in desk.fail("plan:evil")
    assert not (tmp_path / "reached").exists()


@pytest.fixture
def locked(desk: Desk) -> Iterator[Desk]:
    """A build folder that its user cannot write."""
    desk.build.mkdir()
    desk.build.chmod(stat.S_IRUSR | stat.S_IXUSR)
    yield desk
    desk.build.chmod(stat.S_IRWXU)


def test_a_build_folder_that_cannot_be_written_does_not_keep_one_from_looking(locked: Desk) -> None:
    locked.succeed("list", "--all")
    assert "seal:tiny" in locked.succeed("plan")
    assert list(locked.build.iterdir()) == []


@pytest.mark.root
def test_another_user_in_roots_checkout_can_look_and_is_told_why_not_build(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    desk = Desk(tmp_path / "recipes", tmp_path / "build")
    desk.recipes.mkdir()
    desk.build.mkdir()
    desk.write("tiny")
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    desk.succeed("list", before=nobody)
    assert f"{desk.build}: cannot be written" in desk.succeed("plan", before=nobody)
    said = desk.fail("build", before=nobody)
    assert "needs root" in said
    assert f"{desk.build}: cannot be written" in said
    assert list(desk.build.iterdir()) == []


def test_a_description_is_one_line_in_a_list_and_all_of_it_in_help() -> None:
    text = Description("one line\n\nand more")
    assert f"{text:<10}|" == "one line  |"
    assert str(text) == "one line\n\nand more"


def test_a_verb_without_a_default_says_so() -> None:
    assert "nothing: no recipe says `default: true`" in list_forms("build", ["build:a"], [])


def test_cleaning_takes_nothing_from_under_a_run(desk: Desk) -> None:
    record, layer, index = (desk.build / name for name in (
        "work/tiny/filesystem.json", "work/tiny/filesystem.img", "repositories/tiny/repodata/repomd.xml"))  # fmt: skip
    for path in (record, layer, index):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with hold_lock(desk.build / "work/tiny/lock", "the build of tiny"):
        said = desk.fail("clean", "filesystem:tiny", "repository:tiny")
    assert f"the build of tiny is in use by process {os.getpid()} " in said
    assert "next: wait for it to end" in said
    assert record.exists()
    assert layer.exists()
    with hold_lock(desk.build / "repositories/tiny.lock", "the repository tiny"):
        assert "the repository tiny is in use by" in desk.fail("clean", "repository:small")
    assert index.exists()
    desk.succeed("clean", "filesystem:tiny", "repository:tiny")
    assert not record.exists()
    assert not layer.exists()
    assert not index.exists()


def test_cleaning_what_was_never_built_makes_nothing(desk: Desk) -> None:
    desk.succeed("clean", "seal:tiny", "repository:tiny")
    assert not desk.build.exists()


def lack_memory() -> None:
    raise MemoryError


def have_a_bug() -> None:
    raise ZeroDivisionError


def test_what_the_host_lacks_is_told_and_a_bug_keeps_its_traceback() -> None:
    failed = guard(lack_memory)
    assert failed is not None
    assert "too little free memory\n  next: end other programs" in failed.get_msg()
    with pytest.raises(ZeroDivisionError):
        guard(have_a_bug)
