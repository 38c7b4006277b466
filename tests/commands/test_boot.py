"""What `doit boot` refuses before it starts anything, and what it says of a boot that is over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import FakeTool, FakeToolMaker

from xenkiln.commands import boot
from xenkiln.commands.boot import CONSOLE, JUNIT, RECORD, describe_lab, find_problems, report, run
from xenkiln.errors import BuildError, HostError, XenkilnError
from xenkiln.lab import host, readiness
from xenkiln.lab.readiness import TOOLS, require_dom0
from xenkiln.model.boot_record import BootRecord, Failure, Met
from xenkiln.model.loader import LoadedImage, load_image
from xenkiln.model.records import StepTime
from xenkiln.system.layout import PROJECT, Paths
from xenkiln.system.locks import hold_lock

TINY = (PROJECT / "recipes/images/tiny.yaml").read_text(encoding="utf-8")
DHCP = "        method: dhcp\n"
STATIC = "        method: static\n        address: 10.0.2.50/24\n        gateway: 10.0.2.2\n"
PATHS = Paths("tiny", Path("/build"), Path("/recipes"))


@pytest.fixture(autouse=True)
def tools(fake_tool: FakeToolMaker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[FakeTool]:
    """A host with memory, a built dom0 and every tool, none of which is ever called; nothing else is on its PATH."""
    monkeypatch.setenv("XENKILN_BUILD", str(tmp_path / "build"))
    (tmp_path / "build/images/lab-dom0").mkdir(parents=True)
    (tmp_path / "build/images/lab-dom0/SHA256SUMS").write_text("")
    made = [fake_tool(name, "exit 1") for name in sorted(TOOLS)]
    monkeypatch.setenv("PATH", str(made[0].path.parent))
    monkeypatch.setattr("xenkiln.system.tools.SEARCH_PATH", "")
    monkeypatch.setattr(host, "available_mib", lambda: 8192)
    return made


def load(folder: Path, text: str = TINY) -> LoadedImage:
    path = folder / "recipes" / "tiny.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return load_image(path)


def assert_nothing_was_started(tools: list[FakeTool]) -> None:
    assert {tool.path.name: tool.calls for tool in tools} == {name: [] for name in TOOLS}


def test_a_host_that_has_everything_has_no_problem(tmp_path: Path, tools: list[FakeTool]) -> None:
    assert find_problems(load(tmp_path)) == []
    assert_nothing_was_started(tools)


def test_missing_tools_are_named_with_the_packages_that_bring_them(tmp_path: Path, tools: list[FakeTool]) -> None:
    loaded = load(tmp_path)
    for tool in tools:
        if tool.path.name in ("qemu-system-x86_64", "ssh-keygen"):
            tool.path.unlink()
    (problem,) = find_problems(loaded)
    assert isinstance(problem, HostError)
    assert str(problem) == (
        "this host has no qemu-system-x86_64, ssh-keygen\n"
        "  next: apt-get install openssh-client qemu-system-x86 (scripts/env does it by itself)"
    )


def test_too_little_room_is_told(tmp_path: Path, tools: list[FakeTool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "SPACE_MIB", 1 << 40)
    (problem,) = find_problems(load(tmp_path))
    assert problem.fact.endswith(f"MiB are free, and a Xen host and what its guest writes take {1 << 40}")


def test_a_guest_without_an_interface_cannot_answer(tmp_path: Path, tools: list[FakeTool]) -> None:
    loaded = load(tmp_path)
    domain = loaded.recipe.domain.model_copy(update={"vifs": ()})
    (problem,) = find_problems(replace(loaded, recipe=loaded.recipe.model_copy(update={"domain": domain})))
    assert problem.place.endswith("tiny.yaml: domain.vifs")


def test_too_little_memory_is_told_with_what_the_guest_wants(
    tmp_path: Path, tools: list[FakeTool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "available_mib", lambda: 700)
    (problem,) = find_problems(load(tmp_path))
    assert problem.fact == "700 MiB of memory are available, a Xen host with a guest of 96 MiB takes 736"
    assert_nothing_was_started(tools)


def test_a_dom0_that_was_never_built_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "build/images/lab-dom0/SHA256SUMS").unlink()
    with pytest.raises(HostError) as caught:
        require_dom0(describe_lab())
    assert str(caught.value) == (
        f"{tmp_path}/build/images/lab-dom0: the lab's Xen host has not been built\n"
        "  next: put lab-dom0.yaml of the project's recipes beside your own"
    )


def test_ssh_needs_an_interface_that_asks_for_its_address(tmp_path: Path) -> None:
    loaded = load(tmp_path, TINY.replace(DHCP, STATIC))
    (problem,) = find_problems(loaded)
    assert problem.place.endswith("tiny.yaml: boot")
    assert problem.fact.startswith("the lab's network gives addresses by DHCP")
    assert problem.next_step == "expect nothing over ssh there, or make it method: dhcp"


def test_a_fixed_address_is_no_problem_where_nobody_logs_in(tmp_path: Path) -> None:
    text = TINY[: TINY.index("boot:\n")].replace(DHCP, STATIC) + "boot:\n  console: ['tiny: ready']\n"
    assert find_problems(load(tmp_path, text)) == []


@pytest.mark.parametrize(("count", "is_too_many"), [(15, False), (16, True), (17, True)])
def test_more_disks_than_the_lab_has_numbers_for_are_refused(
    tmp_path: Path, count: int, is_too_many: bool
) -> None:
    loaded = load(tmp_path)
    disks = loaded.recipe.disks.model_copy(update={"extra": (None,) * count})
    recipe = loaded.recipe.model_copy(update={"disks": disks})
    facts = [problem.fact for problem in find_problems(replace(loaded, recipe=recipe))]
    assert facts == (["the lab gives a guest 17 disks at most"] if is_too_many else [])


def test_all_problems_come_together_and_an_old_verdict_does_not_stay(
    tmp_path: Path, tools: list[FakeTool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "available_mib", lambda: 100)
    monkeypatch.setattr(boot, "work_on_host", lambda *_, **__: pytest.fail("a lab is opened"))
    images = tmp_path / "build/images/tiny"
    images.mkdir(parents=True)
    for name in (RECORD, CONSOLE, JUNIT, "root.img"):
        (images / name).write_text("old")
    tools[0].path.unlink()
    with pytest.raises(XenkilnError) as caught:
        run(load(tmp_path, TINY.replace(DHCP, STATIC)))
    said = str(caught.value)
    assert [words in said for words in ("this host has no", "100 MiB of memory", "addresses by DHCP")] == [True] * 3
    assert [path.name for path in images.iterdir()] == ["root.img"]
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["images"]


def test_a_second_boot_is_refused_and_takes_nothing_from_the_first(
    tmp_path: Path, tools: list[FakeTool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "available_mib", lambda: 100000)
    monkeypatch.setattr(boot, "work_on_host", lambda *_, **__: pytest.fail("a lab is opened"))
    monkeypatch.setattr(boot, "require_dom0", lambda _: None)
    images = tmp_path / "build/images/tiny"
    images.mkdir(parents=True)
    (images / CONSOLE).write_text("growing")
    loaded = load(tmp_path)
    with (
        hold_lock(tmp_path / "build/lab/boot-tiny.lock", "it"),
        pytest.raises(HostError, match="the boot of tiny is in use"),
    ):
        run(loaded)
    assert (images / CONSOLE).read_text() == "growing"


PASSED = BootRecord(
    name="tiny", key="7a2d", started=1700000000.0, result="passed", accelerator="tcg",
    steps=(StepTime("qemu", 0.51), StepTime("guest kernel", 10.88), StepTime("services", 34.37)),
    expectations=(Met("console says 'tiny: ready'", 29.0), Met("ssh lets us in", 33.23)),
    hypervisor="xen", guest_type="PV", kernel="6.1.0-38-amd64", memory_mib=60,
    addresses=("10.0.2.50/28", "fd00::2/64"),
)  # fmt: skip
FAILURE = Failure(
    "guest init", "not all was met within 90 s", "the guest has not been seen on the network",
    "look for xen-netfront", {"ssh lets us in": "no ssh server has answered yet"},
    ("tiny: network not up", "tiny login: "),
)  # fmt: skip
BARE = replace(PASSED, hypervisor="", guest_type="", kernel="", memory_mib=None, addresses=())


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (PASSED, ("boot:tiny  45.8 s  passed: PV guest of Xen, kernel 6.1.0-38-amd64, sees 60 MiB, 10.0.2.50/28;"
                 " all 2 expectations met 33.2 s after its start\n")),
        (BARE, "boot:tiny  45.8 s  passed: a guest of Xen; all 2 expectations met 33.2 s after its start\n"),
    ],
)  # fmt: skip
def test_success_is_one_line(record: BootRecord, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    report(record, PATHS)
    assert capsys.readouterr().out == line


def test_failure_says_what_why_and_what_next(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BuildError) as caught:
        report(replace(PASSED, result="failed", failure=FAILURE), PATHS)
    assert capsys.readouterr().out == ""
    assert str(caught.value) == """\
tiny does not come up under Xen: guest init: not all was met within 90 s
  not met: ssh lets us in: no ssh server has answered yet
  | tiny: network not up
  | tiny login: 
  likely cause: the guest has not been seen on the network
  full output: /build/images/tiny/console.log
  next: look for xen-netfront"""  # noqa: W291  # as the guest says it


@pytest.mark.parametrize(
    "failure",
    [
        replace(FAILURE, lacks={"`ls --color` succeeds": "it prints '' and exit code 1: \x1b[2J\x1b]0;title\x07"}),
        replace(FAILURE, fact="xl cannot create it: \x1b[31mred"),
        replace(FAILURE, last_lines=("libxl: \x1b[31mred", "\x9b2J")),
    ],
)
def test_what_a_guest_prints_is_shown_and_not_obeyed(failure: Failure) -> None:
    with pytest.raises(BuildError) as caught:
        report(replace(PASSED, result="failed", failure=failure), PATHS)
    assert all(line.isprintable() for line in str(caught.value).splitlines())
