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
           " --reproducible --no-reproducible",
}  # fmt: skip
STRICT = """\
known='{known}'
[ "$1" = --help ] && {{ printf '  %s  what it does\\n' $known; exit 0; }}
while [ $# -gt 0 ]; do
    case $1 in
    -*) case " $known " in *" $1 "*) ;; *) echo "dracut: unrecognized option '$1'" >&2; exit 1 ;; esac
        [ "$1" = --add-drivers ] && shift ;;
    *) break ;;
    esac
    shift
done
[ $# -eq 2 ]
"""


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
    ramdisk = Ramdisk(maker="dracut", modules=("xen-blkfront", "dm-mod"), preload=("xen-blkfront",))
    command, _ = dracut.make_ramdisk_steps(ramdisk, "ext4", tmp_path, "/tmp/initrd.img")
    assert isinstance(command, Run)
    context = make_context(tmp_path)
    context.values["kernel_version"] = "5.14.0-1.el9.x86_64"
    context.run(command.argv, input_text=command.input_text)
    assert tool.calls[0] == ["--help"]
    assert tool.calls[1] == [*options, "--force", "--add-drivers", "xen-blkfront xen-netfront dm-mod ext4",
                             "/tmp/initrd.img", "5.14.0-1.el9.x86_64"]  # fmt: skip


def test_the_stand_in_refuses_what_its_age_does_not_know(tmp_path: Path, fake_tool: FakeToolMaker) -> None:
    fake_tool("dracut", STRICT.format(known=KNOWN["004"]))
    with pytest.raises(CommandError, match="unrecognized option '--reproducible'"):
        make_context(tmp_path).run(["dracut", "--reproducible", "--force", "out", "version"])
