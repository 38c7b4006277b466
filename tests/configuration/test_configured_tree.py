"""Accounts, keys and files in a tree: modes, owners, and nothing outside of the tree, whatever links it holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from xenkiln.configuration.steps import list_sources, make_account_steps, make_file_steps, make_script_steps
from xenkiln.errors import BuildError, XenkilnError
from xenkiln.model.configure import Configure
from xenkiln.system.commands import Runner
from xenkiln.system.execution import Context, run_steps
from xenkiln.system.layout import Paths
from xenkiln.system.steps import Run, Step, Write

EPOCH = 1_700_000_000
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIexample me@example.org"
OTHER_KEY = "ecdsa-sha2-nistp256 AAAAE2VjZHNhexample you@example.org"
PRIVATE_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----\n"
HASH = "$6$salt$hash"
Owners = dict[str, tuple[int, int]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for folder in ("etc/skel", "root", "home", "usr/bin"):
        (root / folder).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/shadow").write_text("root:*:19000:0:99999:7:::\n")
    (root / "etc/group").write_text("root:x:0:\nadm:x:4:\n")
    (root / "etc/skel/.profile").write_text("# hello\n")
    (root / "etc/skel/escape").symlink_to("/etc/shadow")
    return root


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    (tmp_path / "recipes").mkdir()
    return tmp_path / "recipes"


@pytest.fixture
def owners(monkeypatch: pytest.MonkeyPatch) -> Owners:
    """Path -> (uid, gid) of every change of an owner; none is really made, so that no root is needed."""
    changed: Owners = {}

    def chown(path: Path | str, uid: int, gid: int, *, follow_symlinks: bool = True) -> None:
        target = os.path.realpath(path) if follow_symlinks else path
        changed[str(target)] = (uid, gid)

    monkeypatch.setattr(os, "chown", chown)
    return changed


def configure(**settings: object) -> Configure:
    return Configure.model_validate({"hostname": "guest", **settings})


def run(steps: list[Step], root: Path) -> None:
    paths = Paths("img", root.parent / "build", root.parent / "recipes")
    run_steps(steps, Context(paths, Runner(), lambda text: None, {"epoch": str(EPOCH)}))


def account_steps(settings: Configure, recipes: Path, root: Path) -> list[Step]:
    return make_account_steps(settings, recipes, HASH, root)


def mode(path: Path) -> str:
    return f"{path.lstat().st_mode & 0o7777:04o}"


ALICE = {"name": "alice", "uid": 1000, "groups": ("adm",), "ssh_keys": (OTHER_KEY,)}


def test_root_gets_its_password_and_its_keys(root: Path, recipes: Path, owners: Owners) -> None:
    run(account_steps(configure(ssh_keys=(KEY,)), recipes, root), root)
    assert (root / "etc/shadow").read_text().startswith(f"root:{HASH}:")
    assert (root / "root/.ssh/authorized_keys").read_text() == f"{KEY}\n"
    assert (mode(root / "root/.ssh"), mode(root / "root/.ssh/authorized_keys")) == ("0700", "0600")
    assert owners[str(root / "root/.ssh/authorized_keys")] == (0, 0)


def test_a_user_gets_a_home_of_her_own(root: Path, recipes: Path, owners: Owners) -> None:
    run(account_steps(configure(users=(ALICE,)), recipes, root), root)
    home = root / "home/alice"
    assert (home / ".profile").read_text() == "# hello\n"
    assert (home / ".ssh/authorized_keys").read_text() == f"{OTHER_KEY}\n"
    names = ("", ".profile", "escape", ".ssh", ".ssh/authorized_keys")
    assert {name: owners[str(home / name)] for name in names} == dict.fromkeys(names, (1000, 1000))
    assert str(root / "etc/shadow") in owners
    assert owners[str(root / "etc/shadow")][0] == 0, "a link in /etc/skel gives nothing away"


def test_a_folder_that_is_there_is_not_given_away(root: Path, recipes: Path, owners: Owners) -> None:
    run(account_steps(configure(users=({**ALICE, "home": "/usr"},)), recipes, root), root)
    assert str(root / "usr") not in owners
    assert str(root / "usr/bin") not in owners


@pytest.mark.parametrize(("group", "expected"), [(0, "0600"), (os.getgid() or 42, "0640")])
def test_shadow_is_read_by_nobody_else(
    group: int, expected: str, root: Path, recipes: Path, owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = real(path, follow_symlinks=follow_symlinks)
        return os.stat_result((*found[:5], group, *found[6:])) if path.name == "shadow" else found

    monkeypatch.setattr(Path, "stat", stat)
    run(account_steps(configure(), recipes, root), root)
    assert mode(root / "etc/shadow") == expected
    assert owners[str(root / "etc/shadow")] == (0, group)
    assert mode(root / "etc/passwd") == "0644"


def test_key_files_are_read_with_their_comments_left_out(root: Path, recipes: Path, owners: Owners) -> None:
    (recipes / "team.pub").write_text(f'# the team\r\n\r\n{KEY}\r\nno-pty,from="10.*" {OTHER_KEY}\r\n', newline="")
    run(account_steps(configure(ssh_key_files=("team.pub",)), recipes, root), root)
    assert (root / "root/.ssh/authorized_keys").read_text() == f'{KEY}\nno-pty,from="10.*" {OTHER_KEY}\n'


@pytest.mark.parametrize(("content", "words"), [
    (PRIVATE_KEY.encode(), "private key"),
    (b"PuTTY-User-Key-File-3: ssh-ed25519\n", "private key"),
    (b"", "no file of ssh public keys"),
    (b"hello\n", "no file of ssh public keys"),
    (f"{KEY}\nssh-rsa\n".encode(), "no file of ssh public keys"),
    (b"\xff\xfe\x00", "not text"),
])  # fmt: skip
def test_what_is_no_public_key_is_refused(content: bytes, words: str, root: Path, recipes: Path) -> None:
    (recipes / "id.pub").write_bytes(content)
    with pytest.raises(BuildError, match=words) as failure:
        account_steps(configure(ssh_key_files=("id.pub",)), recipes, root)
    assert failure.value.place == "id.pub"
    assert "b3BlbnNz" not in str(failure.value)


def test_files_are_written_with_their_modes_and_owners(root: Path, recipes: Path, owners: Owners) -> None:
    (recipes / "logo").write_bytes(b"\x89\xff")
    (recipes / "motd.j2").write_text("{{ hostname }} for {{ purpose }}\n")
    settings = configure(
        variables={"purpose": "tests"},
        files=(
            {"path": "/etc/motd", "template": "motd.j2"},
            {"path": "/srv/new/logo", "source": "logo", "mode": "0600", "owner": 33, "group": 34},
            {"path": "/etc/issue", "content": "{{ not a template }}\n"},
        ),
    )
    run(make_file_steps(settings, recipes, root), root)
    assert (root / "etc/motd").read_text() == "guest for tests\n"
    assert (root / "srv/new/logo").read_bytes() == b"\x89\xff"
    assert (root / "etc/issue").read_text() == "{{ not a template }}\n"
    assert mode(root / "srv/new/logo") == "0600"
    assert owners[str(root / "srv/new/logo")] == (33, 34)


@pytest.mark.parametrize("template", ["{{ missing }}", "{% if %}", "{{ 'x' | nofilter }}"])
def test_a_wrong_template_is_named(template: str, root: Path, recipes: Path) -> None:
    (recipes / "motd.j2").write_text(template)
    with pytest.raises(XenkilnError, match=r"motd\.j2"):
        make_file_steps(configure(files=({"path": "/etc/motd", "template": "motd.j2"},)), recipes, root)


def test_a_template_that_is_no_text_is_named(root: Path, recipes: Path) -> None:
    (recipes / "motd.j2").write_bytes(b"\xff")
    with pytest.raises(BuildError, match="not text"):
        make_file_steps(configure(files=({"path": "/etc/motd", "template": "motd.j2"},)), recipes, root)


def test_scripts_run_inside_and_in_order(root: Path, recipes: Path) -> None:
    (recipes / "first.sh").write_text("#!/bin/sh\necho one\n")
    settings = configure(scripts=({"source": "first.sh"}, {"content": "#!/usr/bin/perl\nprint 2;\n"}))
    steps = make_script_steps(settings, recipes, root)
    assert [step.argv for step in steps if isinstance(step, Run)] == [
        ("/run/xenkiln-scripts/01",), ("/run/xenkiln-scripts/02",)]  # fmt: skip
    assert all(step.root == root for step in steps if isinstance(step, Run | Write))


def test_a_script_without_an_interpreter_is_refused(root: Path, recipes: Path) -> None:
    (recipes / "first.sh").write_text("echo one\n")
    with pytest.raises(BuildError, match="must name the interpreter"):
        make_script_steps(configure(scripts=({"source": "first.sh"},)), recipes, root)


def test_a_change_of_any_file_of_the_recipe_counts(recipes: Path) -> None:
    settings = configure(
        ssh_key_files=("a.pub",),
        files=({"path": "/a", "source": "b"}, {"path": "/b", "template": "c.j2"}, {"path": "/c", "content": ""}),
        scripts=({"source": "d.sh"},),
    )
    assert {path.name for path in list_sources(settings, recipes)} == {"a.pub", "b", "c.j2", "d.sh"}


def point(*links: tuple[str, str]) -> Callable[[Path], None]:
    """Replace paths of the tree by links."""

    def change(root: Path) -> None:
        for name, target in links:
            path = root / name
            if path.is_dir() and not path.is_symlink():
                path.rename(root / f"{name.replace('/', '-')}.aside")
            path.unlink(missing_ok=True)
            path.symlink_to(target)

    return change


OUT = "../../../../../../../../../../../.."


@pytest.mark.parametrize("spoil", [
    point(("etc", "{outside}")),
    point(("root", "{outside}")),
    point(("home", f"{OUT}{{outside}}")),
    point(("home", "loop"), ("loop", "home")),
    point(("root/.ssh", "../../../../outside")),
    point(("root/.ssh", "{outside}")),
    point(("etc/passwd", "{outside}/victim")),
    point(("etc/shadow", f"{OUT}{{outside}}/victim")),
    point(("etc/motd", "{outside}/victim")),
    point(("etc/skel", "{outside}")),
    point(("srv", f"{OUT}{{outside}}")),
])  # fmt: skip
def test_no_link_in_the_tree_leads_out_of_it(
    spoil: Callable[[Path], None], root: Path, recipes: Path, owners: Owners, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / "alice").mkdir(parents=True)
    (outside / "victim").write_text("root:x:0:0:root:/root:/bin/sh\n")
    spoil(root)
    for link in [path for path in root.rglob("*") if path.is_symlink() and "{outside}" in str(path.readlink())]:
        target = str(link.readlink()).replace("{outside}", str(outside))
        link.unlink()
        link.symlink_to(target)
    settings = configure(ssh_keys=(KEY,), users=(ALICE,), files=(
        {"path": "/etc/motd", "content": "new"}, {"path": "/srv/new", "content": "new"}))  # fmt: skip
    before = look(outside)
    for steps in (account_steps(settings, recipes, root), make_file_steps(settings, recipes, root)):
        try:
            run(steps, root)
        except XenkilnError:
            continue
    assert look(outside) == before
    assert all(Path(path).is_relative_to(root) for path in owners)


def look(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }
