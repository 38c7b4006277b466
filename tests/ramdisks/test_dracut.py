"""dracut of several ages, by stand-ins that know the options of their age and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import FakeToolMaker
from repositories import make_context

from xenkiln.errors import CommandError
from xenkiln.model.image import Ramdisk
from xenkiln.ramdisks import dracut
from xenkiln.system.steps import Run

# What `dracut --help` lists in CentOS 6 (004), CentOS 7 (033) and Rocky Linux 9 (057), of what matters here.
KNOWN = {
    "004": "--force --add-drivers --hostonly",
    "033": "--force --add-drivers --hostonly --no-hostonly --no-hostonly-cmdline --no-early-microcode --gzip",
    "057": "--force --add-drivers --hostonly --no-hostonly --no-hostonly-cmdline --no-early-microcode --gzip"
           " --reproducible --no-reproducible --force-drivers",
}  # fmt: skip
STRICT = """\
known='{known}'
[ "$1" = --help ] && {{ printf '  %s  what it does\\n' $known; exit 0; }}
while [ $# -gt 0 ]; do
    case $1 in
    -*) case " $known " in *" $1 "*) ;; *) echo "dracut: unrecognized option '$1'" >&2; exit 1 ;; esac
        case $1 in --add-drivers | --force-drivers) shift ;; esac ;;
    *) break ;;
    esac
    shift
done
[ $# -eq 2 ]
"""


def run_maker(ramdisk: Ramdisk, folder: Path) -> None:
    command, _ = dracut.make_ramdisk_steps(ramdisk, "ext4", folder, "/tmp/initrd.img")
    assert isinstance(command, Run)
    context = make_context(folder)
    context.values["kernel_version"] = "5.14.0-1.el9.x86_64"
    context.run(command.argv, input_text=command.input_text)


@pytest.mark.parametrize(
    ("age", "options"),
    [
        ("004", []),
        ("033", ["--no-hostonly", "--no-hostonly-cmdline", "--no-early-microcode", "--gzip"]),
        ("057", ["--no-hostonly", "--no-hostonly-cmdline", "--no-early-microcode", "--reproducible", "--gzip"]),
    ],
)
def test_each_age_gets_the_options_it_knows(
    age: str, options: list[str], tmp_path: Path, fake_tool: FakeToolMaker
) -> None:
    tool = fake_tool("dracut", STRICT.format(known=KNOWN[age]))
    ramdisk = Ramdisk(maker="dracut", modules=("xen-blkfront", "dm-mod"))
    run_maker(ramdisk, tmp_path)
    assert tool.calls[0] == ["--help"]
    assert tool.calls[1] == [*options, "--force", "--add-drivers", "xen-blkfront xen-netfront dm-mod ext4",
                             "/tmp/initrd.img", "5.14.0-1.el9.x86_64"]  # fmt: skip


def test_what_is_to_be_loaded_first_is_forced(tmp_path: Path, fake_tool: FakeToolMaker) -> None:
    tool = fake_tool("dracut", STRICT.format(known=KNOWN["057"]))
    run_maker(Ramdisk(maker="dracut", preload=("loop", "xen-blkfront")), tmp_path)
    words = tool.calls[1]
    assert words[words.index("--force-drivers") + 1] == "loop xen-blkfront"
    assert words[-3:] == ["xen-blkfront xen-netfront ext4", "/tmp/initrd.img", "5.14.0-1.el9.x86_64"]


@pytest.mark.parametrize("age", ["004", "033"])
def test_a_dracut_that_cannot_load_some_first_says_so(age: str, tmp_path: Path, fake_tool: FakeToolMaker) -> None:
    fake_tool("dracut", STRICT.format(known=KNOWN[age]))
    with pytest.raises(CommandError, match=r"cannot load loop before other modules: take ramdisk\.preload out"):
        run_maker(Ramdisk(maker="dracut", preload=("loop",)), tmp_path)


def test_the_stand_in_refuses_what_its_age_does_not_know(tmp_path: Path, fake_tool: FakeToolMaker) -> None:
    fake_tool("dracut", STRICT.format(known=KNOWN["004"]))
    with pytest.raises(CommandError, match="unrecognized option '--reproducible'"):
        make_context(tmp_path).run(["dracut", "--reproducible", "--force", "out", "version"])
