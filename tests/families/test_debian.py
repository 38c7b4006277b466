"""Debian and Ubuntu guests: every file that is written, as golden files, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from xenkiln.families import debian
from xenkiln.families.contract import Guest
from xenkiln.families.first_boot import GROW_ROOT, META_DATA, SSH_KEYS, FirstBootTask
from xenkiln.model.configure import Configure, Network
from xenkiln.model.image import ImageRecipe
from xenkiln.model.loader import load_image
from xenkiln.stages.configure import slice_recipe
from xenkiln.system.commands import Runner
from xenkiln.system.execution import Context
from xenkiln.system.layout import PROJECT, Paths
from xenkiln.system.steps import Do, Run, Step, Write

GOLDEN = Path(__file__).parents[1] / "golden/debian"
SHIPPED = PROJECT / "recipes/images"
CASES = {
    "debian-12": SHIPPED / "debian-12.yaml",
    "ubuntu-10.04": SHIPPED / "ubuntu-10.04.yaml",
    "ubuntu-24.04": SHIPPED / "ubuntu-24.04.yaml",
    "debian-everything": Path(__file__).with_name("debian-everything.yaml"),
    "lucid-everything": Path(__file__).with_name("lucid-everything.yaml"),
}
ROOT = Path("/ROOT")
TASKS = (SSH_KEYS, GROW_ROOT, META_DATA)


@pytest.fixture
def short_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """First-boot scripts have tests of their own; golden files need not repeat them."""
    monkeypatch.setattr(FirstBootTask, "read_script", lambda task: f"(scripts/guest/{task.script})\n")


def load_guest(name: str) -> Guest:
    return slice_recipe(load_image(CASES[name])).guest


def load_recipe(name: str) -> ImageRecipe:
    return load_image(CASES[name]).recipe


def render_steps(steps: list[Step]) -> dict[str, str]:
    """Golden file -> text: one for each file written, and `commands` for the rest, in order."""
    files: dict[str, str] = {}
    commands = []
    for step in steps:
        if isinstance(step, Write):
            assert step.root == ROOT, "nothing is written outside the guest's root"
            head = "" if (step.mode, step.owner, step.group) == (0o644, 0, 0) else f"(mode {step.mode:o})\n"
            files[str(step.path).lstrip("/")] = head + str(step.content)
        elif isinstance(step, Run):
            assert step.root == ROOT
            commands.append(" ".join(map(str, step.argv)))
        else:
            assert isinstance(step, Do)
            commands.append(f"({step.why})")
    return {**files, "commands": "".join(f"{line}\n" for line in commands)}


@pytest.mark.usefixtures("short_scripts")
@pytest.mark.parametrize("name", CASES)
def test_the_files_are_the_golden_ones(name: str, request: pytest.FixtureRequest) -> None:
    rendered = render_steps(list(debian.make_configure_steps(load_guest(name), ROOT)))
    folder = GOLDEN / name
    if request.config.getoption("--regenerate", default=False):
        shutil.rmtree(folder, ignore_errors=True)
        for path, text in rendered.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    golden = {str(path.relative_to(folder)): path.read_text(encoding="utf-8")
              for path in folder.rglob("*") if path.is_file()}  # fmt: skip
    assert rendered == golden


def test_every_folder_of_golden_files_is_used() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(CASES)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.script)
def test_the_script_of_every_task_is_there(task: FirstBootTask) -> None:
    assert task.read_script().startswith("#!/bin/sh\n")


def run_do(guest: Guest, why: str, root: Path) -> None:
    """Do the one step in this process whose description begins so."""
    steps = [step for step in debian.make_configure_steps(guest, root) if isinstance(step, Do)]
    (step,) = [step for step in steps if step.why.startswith(why)]
    step.function(Context(Paths("img", root.parent, root.parent), Runner(), lambda text: None))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/etc").mkdir(parents=True)
    return tmp_path / "root"


@pytest.mark.usefixtures("short_scripts")
@pytest.mark.parametrize("before", ["file", "link to the host's", "dangling link", "nothing"])
def test_resolv_conf_is_never_the_hosts(before: str, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "host-resolv.conf"
    outside.write_text("nameserver 203.0.113.1\n")
    path = root / "etc/resolv.conf"
    if before == "file":
        path.write_text("nameserver 203.0.113.1\nsearch build.example\n")
    elif before == "link to the host's":
        path.symlink_to(outside)
    elif before == "dangling link":
        path.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    run_do(load_guest("debian-everything"), "set /etc/resolv.conf", root)
    assert path.read_text() == "nameserver 192.0.2.53\nnameserver 2001:db8::53\n"
    assert not path.is_symlink()
    assert outside.read_text() == "nameserver 203.0.113.1\n"


@pytest.mark.usefixtures("short_scripts")
def test_resolv_conf_is_resolveds_where_it_is_installed(root: Path) -> None:
    (root / "usr/lib/systemd").mkdir(parents=True)
    (root / "usr/lib/systemd/systemd-resolved").touch()
    (root / "lib").symlink_to("usr/lib")
    run_do(load_guest("debian-12"), "set /etc/resolv.conf", root)
    assert str((root / "etc/resolv.conf").readlink()) == "../run/systemd/resolve/stub-resolv.conf"


@pytest.mark.usefixtures("short_scripts")
def test_root_may_log_in_on_the_console_and_is_let_in_once(root: Path) -> None:
    (root / "etc/securetty").write_text("tty1\n")
    for _ in range(2):
        run_do(load_guest("ubuntu-10.04"), "let root log in on hvc0", root)
    assert (root / "etc/securetty").read_text() == "tty1\nhvc0\n"


@pytest.mark.usefixtures("short_scripts")
def test_mount_points_are_made_inside_the_root(root: Path, tmp_path: Path) -> None:
    """Without its folder a disk in fstab stops the guest at boot."""
    (tmp_path / "outside").mkdir()
    (root / "srv").symlink_to("/../../outside")
    run_do(load_guest("debian-everything"), "make the mount points", root)
    assert (root / "scratch").is_dir()
    assert (root / "tmp").is_dir()
    assert (root / "outside/data").is_dir(), "the link leads where the guest would see it lead"
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.usefixtures("short_scripts")
def test_an_unknown_time_zone_is_refused(root: Path) -> None:
    with pytest.raises(Exception, match="no time zone Europe/Amsterdam"):
        run_do(load_guest("debian-everything"), "look for the time zone", root)


@pytest.mark.parametrize(("console", "unit"), [
    ("hvc0", "serial-getty@hvc0.service"), ("ttyS0", "serial-getty@ttyS0.service"), ("tty1", "getty@tty1.service"),
])  # fmt: skip
@pytest.mark.usefixtures("short_scripts")
def test_a_login_waits_on_the_console(console: str, unit: str) -> None:
    guest = replace(load_guest("debian-12"), console=console)
    runs = [step.argv for step in debian.make_configure_steps(guest, ROOT) if isinstance(step, Run)]
    assert ("systemctl", "enable", unit) in runs


def test_without_sources_in_the_recipe_the_guest_gets_its_distributions_own() -> None:
    guest = load_guest("debian-everything")
    assert guest.configure.sources.apt == ()
    assert debian.list_sources(guest) == [
        "deb http://deb.debian.org/debian bookworm main",
        "deb http://deb.debian.org/debian bookworm-updates main",
        "deb http://security.debian.org/debian-security bookworm-security main",
    ]


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_wrong_with_these_recipes(name: str) -> None:
    assert debian.find_recipe_problems(load_recipe(name)) == []


CONFIGURE = load_recipe("debian-12").configure


def configured(**network: object) -> Configure:
    return CONFIGURE.model_copy(update={"network": Network.model_validate(network)})


@pytest.mark.parametrize(("changes", "field", "words"), [
    ({"release": "sid"}, ("release",), "unknown release 'sid'; known: bullseye, bookworm"),
    ({"release": "noble", "arch": "i386"}, ("arch",), "Ubuntu has no i386"),
    ({"release": "jammy", "arch": "i386"}, ("arch",), "Ubuntu has no i386"),
    ({"release": "trixie", "arch": "i386"}, ("arch",), "no i386 kernel"),
    ({"configure": configured(manager="ifcfg")}, ("configure", "network", "manager"), "networkd or ifupdown"),
    ({"configure": configured(manager="busybox")}, ("configure", "network", "manager"), "networkd or ifupdown"),
    ({"release": "lucid", "configure": configured(manager="networkd")}, ("configure", "network", "manager"),
     "ifupdown"),
    ({"configure": configured(gateway="192.0.2.1")}, ("configure", "network", "gateway"), "static"),
])  # fmt: skip
def test_what_debian_cannot_do_is_refused(changes: dict[str, object], field: tuple[str, ...], words: str) -> None:
    problems = debian.find_recipe_problems(load_recipe("debian-12").model_copy(update=changes))
    assert [problem[0] for problem in problems] == [field]
    assert words in problems[0][1]


def test_i386_is_fine_where_it_exists() -> None:
    assert debian.find_recipe_problems(load_recipe("debian-12").model_copy(update={"arch": "i386"})) == []


@pytest.mark.parametrize(
    ("name", "without", "fact"),
    [
        ("debian-everything", "curl", "fetch_metadata needs busybox or curl or wget"),
        ("lucid-everything", "ifupdown", "network.manager: ifupdown needs ifupdown or"),
        ("lucid-everything", "dhcp3-client", "a dhcp interface with ifupdown needs"),
    ],
)
def test_a_setting_without_its_program_is_refused(name: str, without: str, fact: str) -> None:
    recipe = load_recipe(name)
    install = tuple(package for package in recipe.packages.install if package != without)
    changed = recipe.model_copy(update={"packages": recipe.packages.model_copy(update={"install": install})})
    assert [text for place, text in debian.find_recipe_problems(changed) if fact in text]
