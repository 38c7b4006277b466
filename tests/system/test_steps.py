"""Steps as data: what they need of the host, and how a plan shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from xenkiln.errors import BuildError, CommandError
from xenkiln.system.commands import Runner
from xenkiln.system.execution import Context, describe_step, run_steps, show_step
from xenkiln.system.files import partial_path
from xenkiln.system.layout import Paths
from xenkiln.system.steps import (
    Do,
    Finish,
    Mount,
    Release,
    Run,
    Step,
    Value,
    Write,
    list_tools,
    needs_loop,
    needs_root,
)

ROOT = Path("/build/root")


def make_context(tmp_path: Path, said: list[str]) -> Context:
    return Context(Paths("x", tmp_path, tmp_path), Runner(tmp_path / "stage.log"), said.append, {"version": "6.1"})


@pytest.mark.parametrize(("steps", "tools"), [
    ([Run("x", ("mke2fs", "-q"))], {"mke2fs"}),
    ([Run("x", ("dracut",), root=ROOT)], {"unshare", "chroot"}),
    ([Mount("image", ROOT)], {"mount", "umount"}),
    ([Do("x", print, ("debugfs", "zstd")), Finish(ROOT), Release(), Write("/x", "")], {"debugfs", "zstd"}),
])  # fmt: skip
def test_the_tools_of_steps_are_known_beforehand(steps: list[Step], tools: set[str]) -> None:
    assert list_tools(steps) == tools


def test_only_mounting_and_entering_a_root_need_root() -> None:
    assert not needs_root([Run("x", ("true",)), Do("x", print), Write("/x", ""), Finish(ROOT)])
    for step in (Mount("tmpfs", ROOT), Release(), Run("x", ("true",), root=ROOT), Write("/x", "", root=ROOT)):
        assert needs_root([step])


def test_only_images_need_a_loop_device() -> None:
    assert needs_loop([Mount("image", ROOT)])
    assert not needs_loop([Mount("tmpfs", ROOT), Mount("overlay", ROOT), Run("x", ("true",))])


def test_a_plan_shows_commands_ready_to_copy_and_whole_files() -> None:
    steps: list[Step] = [
        Run("make it", ("echo", "two words", Value("version", "/lib/{}")), root=ROOT),
        Write("/etc/motd", "hello\nthere\n", 0o600, 1, 2, ROOT),
        Write(ROOT / "x", b"\0\1"),
        Do("think", print, ("debugfs",), (ROOT / "made",)),
        Mount("image", ROOT, Path("/build/x.img")),
        Finish(ROOT / "x"),
        Release(),
    ]
    assert [line for step in steps for line in show_step(step)] == [
        "# make it (inside /build/root)",
        "$ echo 'two words' /lib/$version",
        "> /build/root/etc/motd  mode 0600 owner 1:2",
        "  | hello",
        "  | there",
        "> /build/root/x  mode 0644 owner 0:0",
        "  | (2 bytes)",
        "# think (runs debugfs)",
        "> /build/root/made",
        "# mount image /build/x.img on /build/root",
        "> /build/root/x",
        "# unmount all",
    ]
    assert [describe_step(step) for step in steps] == [
        "make it", "write /etc/motd", "write /build/root/x", "think", "mount image on root", "finish x", "unmount",
    ]  # fmt: skip


def test_steps_are_done_in_order_timed_and_told(tmp_path: Path) -> None:
    said: list[str] = []
    context = make_context(tmp_path, said)
    output = tmp_path / "output"
    steps: list[Step] = [
        Run("say it", ("echo", Value("version")), progress=lambda line: f"at {line}"),
        Write(partial_path(output), "made"),
        Do("note it", lambda context: context.values.update(seen="yes")),
        Finish(output),
    ]
    times = run_steps(steps, context)
    assert [time.name for time in times] == [
        "say it", f"write {output}.partial", "note it", "finish output",
    ]  # fmt: skip
    assert said == ["say it", "say it: at 6.1", f"write {output}.partial", "note it", "finish output"]
    assert output.read_text() == "made"
    assert context.values["seen"] == "yes"
    assert (tmp_path / "stage.log").read_text().splitlines()[:3] == ["== say it", "$ echo 6.1", "6.1"]


def test_the_first_failure_ends_them(tmp_path: Path) -> None:
    context = make_context(tmp_path, [])
    with pytest.raises(CommandError):
        run_steps([Run("fail", ("false",)), Write(tmp_path / "x", "")], context)
    assert not (tmp_path / "x").exists()
    with pytest.raises(BuildError, match="needs a source"):
        run_steps([Mount("bind", tmp_path / "where")], context)
