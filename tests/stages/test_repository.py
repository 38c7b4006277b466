"""The repository stage: what it fetches and how, what it refuses, and that it is the same every time."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_repository
from conftest import FakeToolMaker
from hypothesis import given
from hypothesis import strategies as st

from xenkiln.errors import BuildError, CommandError
from xenkiln.model.loader import load_image
from xenkiln.repositories.contract import list_makers, load_repository_maker
from xenkiln.repositories.tiny import debs, modules, rpms, trees
from xenkiln.stages import repository
from xenkiln.system.commands import Runner
from xenkiln.system.execution import Context
from xenkiln.system.layout import PROJECT, Paths

pytestmark = pytest.mark.usefixtures("quick_starts")
KERNEL = "linux-image-6.1.0-9-cloud-amd64"


def make_context(folder: Path) -> Context:
    return Context(Paths("tiny", folder / "build", folder), Runner(), lambda text: None)


def test_only_recipes_with_such_a_repository_have_this_stage() -> None:
    recipes = PROJECT / "recipes" / "images"
    assert repository.slice_recipe(load_image(recipes / "tiny.yaml")) == repository.Inputs(("tiny",), "x86_64")
    assert repository.slice_recipe(load_image(recipes / "debian-12.yaml")) is None


def test_every_maker_is_found_by_its_name() -> None:
    assert "tiny" in list_makers()
    for name in list_makers():
        assert load_repository_maker(name).ARCHITECTURES


@pytest.mark.parametrize(
    ("name", "arch", "fact"),
    [("contract", "x86_64", "no repository contract"), ("tiny", "i386", "only be made for x86_64")],
)
def test_what_cannot_be_made_is_refused_before_it_begins(name: str, arch: str, fact: str, tmp_path: Path) -> None:
    problems = repository.find_problems(repository.Inputs((name,), arch), make_context(tmp_path).paths)
    assert [fact in str(problem) for problem in problems] == [True]


def test_makers_are_planned_without_being_run(tmp_path: Path) -> None:
    steps = repository.make_steps(tiny_repository.INPUTS, make_context(tmp_path).paths)
    assert len(steps) == 6
    assert not (tmp_path / "build").exists()


def test_a_repository_that_is_the_same_stays_untouched(tmp_path: Path) -> None:
    for name, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / name / "repodata").mkdir(parents=True)
        (tmp_path / name / "repodata/repomd.xml").write_text(text)
        (tmp_path / name / "x.rpm").write_text(text)
    target = tmp_path / "target"
    repository.place_repository(tmp_path / "a", target)
    before = (target / "x.rpm").stat()
    repository.place_repository(tmp_path / "b", target)
    assert (target / "x.rpm").stat() == before
    (target / "x.rpm").unlink()  # damaged: its index alone does not make it the same
    repository.place_repository(tmp_path / "b", target)
    assert (target / "x.rpm").read_text() == "one"
    repository.place_repository(tmp_path / "c", target)
    assert (target / "x.rpm").read_text() == "two"


FAKE_APT = """
while [ "$1" = -c ]; do
    lists=$(sed -n 's/^Dir::State::lists "\\(.*\\)";/\\1/p' "$2")
    shift 2
done
case $* in
update) touch "$lists/fresh"; exit ;;
"-qq -y --print-uris install "*)
    [ -n "$lists" ] || {host_lists}
    [ -z "$lists" ] || [ -e "$lists/fresh" ] || { echo "E: Unable to locate package" >&2; exit 100; }
    case $* in
    *busybox-static*) echo "'http://x/b.deb' busybox-static_1%3a1.35.0-4_amd64.deb 7 SHA256:{busybox}" ;;
    *linux-image-cloud-amd64) echo "E: Unable to locate package" >&2; exit 100 ;;
    *linux-image-virtual) echo "'http://x/m.deb' linux-image-virtual_6_amd64.deb 1 SHA256:{busybox}"
        echo "'http://x/k.deb' linux-image-6.8-generic_6.8-1_amd64.deb 6 SHA256:{kernel}"
        echo "'http://x/k.deb' linux-modules-6.8-generic_6.8-1_amd64.deb 6 SHA256:{kernel}" ;;
    *) exit 99 ;;
    esac ;;
download*) shift
    for word; do
        case $word in
        busybox-static:amd64=1:1.35.0-4) printf %s busybox >busybox-static_1%3a1.35.0-4_amd64.deb ;;
        linux-*-6.8-generic:amd64=6.8-1) printf %s {sent} >"${word%%:*}_6.8-1_amd64.deb" ;;
        *) exit 98 ;;
        esac
    done ;;
*) echo "unknown arguments: $*" >&2; exit 97 ;;
esac
"""


def fake_apt(fake_tool: FakeToolMaker, *, host_lists: str = "true", sent: str = "kernel") -> list[list[str]]:
    body = FAKE_APT.replace("{host_lists}", host_lists).replace("{sent}", sent)
    for name in ("busybox", "kernel"):
        body = body.replace(f"{{{name}}}", hashlib.sha256(name.encode()).hexdigest())
    return fake_tool("apt-get", body).calls


FILES = ["busybox-static_1%3a1.35.0-4_amd64.deb", "linux-image-6.8-generic_6.8-1_amd64.deb",
         "linux-modules-6.8-generic_6.8-1_amd64.deb"]  # fmt: skip


def test_what_the_host_knows_is_fetched_once(fake_tool: FakeToolMaker, tmp_path: Path) -> None:
    tool = fake_tool("apt-get")
    fake_apt(fake_tool)
    for _ in range(2):
        assert [path.name for path in debs.fetch_debs(tmp_path / "cache", make_context(tmp_path))] == FILES
    verbs = [next(word for word in call[2:] if not word.startswith("-")) for call in tool.calls]
    assert verbs == ["install"] * 3 + ["download"] + ["install"] * 3


def test_a_host_without_package_lists_gets_lists_of_our_own(fake_tool: FakeToolMaker, tmp_path: Path) -> None:
    tool = fake_tool("apt-get")
    fake_apt(fake_tool, host_lists='{ echo "E: Unable to locate package" >&2; exit 100; }')
    assert [path.name for path in debs.fetch_debs(tmp_path / "cache", make_context(tmp_path))] == FILES
    assert sum("update" in call for call in tool.calls) == 1
    debs.fetch_debs(tmp_path / "cache", make_context(tmp_path))
    assert sum("update" in call for call in tool.calls) == 1, "lists of an earlier run are good enough"


def test_a_damaged_file_in_the_cache_is_fetched_again(fake_tool: FakeToolMaker, tmp_path: Path) -> None:
    fake_apt(fake_tool)
    files = debs.fetch_debs(tmp_path / "cache", make_context(tmp_path))
    files[0].write_text("half of i")
    assert debs.fetch_debs(tmp_path / "cache", make_context(tmp_path))[0].read_text() == "busybox"


def test_a_mirror_that_lies_is_caught(fake_tool: FakeToolMaker, tmp_path: Path) -> None:
    fake_apt(fake_tool, sent="something")
    with pytest.raises(BuildError, match="not what the mirror's signed index describes"):
        debs.fetch_debs(tmp_path / "cache", make_context(tmp_path))


def test_when_nothing_helps_apts_own_words_are_shown(fake_tool: FakeToolMaker, tmp_path: Path) -> None:
    fake_tool("apt-get", 'echo "E: Could not resolve mirror.test" >&2; exit 100')
    with pytest.raises(CommandError, match=r"Could not resolve mirror\.test"):
        debs.fetch_debs(tmp_path / "cache", make_context(tmp_path))


def test_apt_gets_a_state_of_its_own_and_none_of_the_hosts_hooks(fake_tool: FakeToolMaker, tmp_path: Path) -> None:
    fake_apt(fake_tool)
    debs.fetch_debs(tmp_path / "cache", make_context(tmp_path))
    conf = (tmp_path / "cache/apt/apt.conf").read_text()
    result = subprocess.run(
        ["apt-config", "-c", tmp_path / "cache/apt/apt.conf", "dump"], capture_output=True, text=True, check=True
    )
    assert 'Dir::State::status "/dev/null"' in conf
    assert "Post-Invoke" not in re.sub(r'(?m)^APT::.*""|^DPkg::.*""', "", result.stdout)
    assert f'Dir::Cache "{tmp_path}/cache/apt/cache/"' in result.stdout


def test_lines_of_apt_become_packages() -> None:
    text = (
        f"'http://m/pool/z/zlib1g_1.2.13_amd64.deb' zlib1g_1%3a1.2.13.dfsg-1_amd64.deb 86684 SHA256:{'a' * 64}\n"
        f"'http://m/pool/g/gcc_all.deb' gcc-base_12~rc1_all.deb 1 SHA256:{'b' * 64}\nNOTICE: something\n"
    )
    assert debs.parse_uris(text) == [
        debs.Deb("gcc-base", "12~rc1", "all", "b" * 64, "gcc-base_12~rc1_all.deb"),
        debs.Deb("zlib1g", "1:1.2.13.dfsg-1", "amd64", "a" * 64, "zlib1g_1%3a1.2.13.dfsg-1_amd64.deb"),
    ]


def test_the_date_of_a_deb_is_its_first_members(tmp_path: Path) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(b"!<arch>\n" + b"debian-binary   1667651086  0     0     100644  4         `\n2.0\n")
    assert debs.read_date(path) == 1667651086
    path.write_bytes(b"<html>" * 20)
    with pytest.raises(BuildError, match="not a Debian package"):
        debs.read_date(path)


@pytest.mark.parametrize(
    ("version", "parts"),
    [("6.1.192-2", (0, "6.1.192", "2")), ("1:1.35.0-4+deb12u1+b1", (1, "1.35.0", "4+deb12u1+b1")),
     ("2:1.0-rc-3", (2, "1.0_rc", "3")), ("20240101", (0, "20240101", "0")), ("1.0~rc1-1", (0, "1.0~rc1", "1"))],
)  # fmt: skip
def test_versions_of_debian_become_versions_of_rpm(version: str, parts: tuple[int, str, str]) -> None:
    assert rpms.split_version(version) == parts


@given(st.from_regex(r"([0-9]:)?[0-9][A-Za-z0-9.+~-]{0,20}", fullmatch=True))
def test_no_version_breaks_a_spec_file(version: str) -> None:
    _, upstream, release = rpms.split_version(version)
    assert not set(upstream + release) & set("-: \n%")


def test_modules_bring_what_they_depend_on(tmp_path: Path) -> None:
    source, target = tmp_path / "6.1", tmp_path / "new"
    for name, needs in (("xen-blkfront", ""), ("xen_netfront", ""), ("ext4", "jbd2,mb-cache"), ("jbd2", ""),
                        ("mb_cache", "deep"), ("deep", ""), ("other", "")):  # fmt: skip
        path = source / "kernel" / f"{name}.ko"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x7fELF\0license=GPL\0depends=" + needs.encode() + b"\0name=x\0")
    (source / "modules.builtin").write_text("kernel/ipv6.ko\n")
    modules.copy_modules(source, target, make_context(tmp_path))
    copied = {path.stem for path in target.rglob("*.ko")}
    assert copied == {"xen-blkfront", "xen_netfront", "ext4", "jbd2", "mb_cache", "deep"}
    (source / "kernel/xen-blkfront.ko").unlink()
    with pytest.raises(BuildError, match="the kernel has no xen-blkfront"):
        modules.copy_modules(source, tmp_path / "third", make_context(tmp_path))


def test_shared_folders_have_one_owner(tmp_path: Path) -> None:
    (tmp_path / "etc/dropbear").mkdir(parents=True)
    (tmp_path / "usr/share/doc/x").mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text("")
    (tmp_path / "etc/passwd").chmod(0o644)
    assert rpms.list_entries(tmp_path, owns_folders=False) == [
        '%config(noreplace) %attr(0644, root, root) "/etc/passwd"', '%dir %attr(0755, root, root) "/usr/share/doc/x"'
    ]  # fmt: skip
    assert '%dir %attr(0700, root, root) "/etc/dropbear"' in rpms.list_entries(tmp_path, owns_folders=True)


def test_every_known_package_has_a_license_that_is_not_a_guess() -> None:
    assert rpms.find_license(KERNEL) == "GPL-2.0-only WITH Linux-syscall-note"
    assert rpms.find_license("something-new") == rpms.UNKNOWN_LICENSE
    assert trees.FOLDERS["tmp"] == 0o1777


def list_hashes(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def ask_rpm(*words: str) -> str:
    return subprocess.run(["rpm", "--query", "--package", *words], check=True, capture_output=True, text=True).stdout


@pytest.mark.network
def test_two_builds_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one in a folder with a blank, under another clock, locale, time zone and umask."""
    monkeypatch.setenv("XENKILN_CACHE", str(tmp_path / "cache"))
    first = tiny_repository.make_repository(tmp_path / "first")
    second = tmp_path / "the second"
    program = f"import tiny_repository, pathlib; tiny_repository.make_repository(pathlib.Path({str(second)!r}))"
    subprocess.run(
        ["faketime", "2035-05-05 05:05:05", "sh", "-c", 'umask 077; exec "$@"', "sh", sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": f"{PROJECT}/tests:{PROJECT}", "TZ": "Asia/Tokyo", "LANG": "de_DE.UTF-8"},
        check=True,
    )  # fmt: skip
    made = first.paths.repository("tiny")
    assert list_hashes(made) == list_hashes(second / "repositories/tiny")
    assert first.values["epoch"] in (made / "repodata/repomd.xml").read_text()
    assert not (first.paths.work / "repository/tiny").exists()


@pytest.mark.network
def test_the_rpms_say_where_they_are_from(tmp_path: Path) -> None:
    made = tiny_repository.make_repository(tmp_path).paths.repository("tiny")
    lines = ask_rpm("--qf", "%{NAME} %{VERSION} %{LICENSE} %{BUILDHOST}\\n", *map(str, made.glob("*.rpm"))).splitlines()
    names = {line.split()[0] for line in lines}
    assert names >= {"kernel", "busybox", "dropbear", "meta-data", "tiny-release", "libc6"}
    assert all(line.endswith(" localhost") for line in lines)
    assert not [line for line in lines if rpms.UNKNOWN_LICENSE in line]
    listed = ask_rpm("--list", *map(str, made.glob("kernel-*.rpm")))
    assert re.search(r"^/boot/vmlinuz-", listed, re.MULTILINE)
    assert "modules.dep\n" in listed
