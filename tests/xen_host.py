"""A Xen host for the tests: a real sshd, stand-ins for its toolstack, and an image to be taken there."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from ssh_host import SshHost

from xenkiln.domains import delivery, preflight
from xenkiln.domains.placement import place_disks
from xenkiln.errors import XenkilnError
from xenkiln.model.domain import Deploy, Domain
from xenkiln.model.image import Disks, RootDisk, SwapDisk
from xenkiln.stages import deploy, domain
from xenkiln.system import transfer
from xenkiln.system.commands import Runner
from xenkiln.system.execution import Context, run_steps
from xenkiln.system.files import hash_file
from xenkiln.system.layout import Paths

MIB = 1 << 20
DATA_MIB = 4
DISKS = Disks(root=RootDisk(size_mib=64), swap=SwapDisk(size_mib=8, device="xvda2"))

# Strict about arguments: what the real one does not know fails here too.
TOOLSTACK = """#!/bin/sh
echo "${0##*/} $*" >>FOLDER/calls
case "$1:$#" in
list:1) echo 'Name ID Mem VCPUs State Time(s)'; echo 'Domain-0 0 1 1 r 1.0'; cat FOLDER/domains ;;
create:2)
    name=$(sed -n 's/^name = "\\(.*\\)"$/\\1/p' "$2") && test -n "$name" &&
    echo "$name 1 96 1 b 0.1" >>FOLDER/domains ;;
*) echo "unknown: $*" >&2; exit 2 ;;
esac
"""


class Setting:
    """A Xen host with an image to be taken there."""

    def __init__(self, host: SshHost, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host, self.folder = host, folder
        self.there = folder / "there"
        self.etc = folder / "etc-xen"
        self.etc.mkdir()
        monkeypatch.setattr(delivery, "CONFIG_FOLDER", str(self.etc))
        monkeypatch.setattr(preflight, "CONFIG_FOLDER", str(self.etc))
        monkeypatch.setattr(transfer, "CONFIRM_BYTES", MIB)
        (folder / "domains").touch()
        (folder / "calls").touch()
        self.add_tool("xl")
        self.paths = Paths("small", folder / "build", folder)
        self.paths.images.mkdir(parents=True)
        self.fill_images(1)

    def add_tool(self, name: str, text: str = TOOLSTACK) -> None:
        tool = self.host.tools / name
        tool.write_text(text.replace("FOLDER", str(self.folder)))
        tool.chmod(0o755)

    def fill_images(self, seed: int) -> None:
        source = random.Random(seed)
        for name, size_mib, data_mib in (("root.img", 64, DATA_MIB), ("swap.img", 8, 0)):
            with (self.paths.images / name).open("wb") as stream:
                stream.truncate(size_mib * MIB)
                stream.seek(2 * MIB)
                stream.write(source.randbytes(data_mib * MIB))
        for name in ("vmlinuz", "initrd.img"):
            (self.paths.images / name).write_bytes(source.randbytes(70_000))

    def run(self, section: Domain | None = None, **changes: object) -> tuple[str, str]:
        """Render and deploy; return the summary and the log."""
        target = self.host.make_target(**changes)
        section = section or Domain(directory=str(self.there))
        inputs = self.make_inputs(section, target)
        runner = Runner(self.folder / "log")
        (self.folder / "log").write_text("")
        run_steps(domain.make_steps(inputs.domain, self.paths), Context(self.paths, runner, lambda _: None))
        context = Context(self.paths, runner, lambda _: None)
        run_steps(deploy.make_steps(inputs, self.paths), context)
        return context.summary, (self.folder / "log").read_text()

    def make_inputs(self, section: Domain, target: Deploy) -> deploy.Inputs:
        disks = place_disks("small", DISKS, section, target.volume_group)
        return deploy.Inputs(target, domain.Inputs("small", section, "/dev/xvda1", disks, ""))

    def refuse(self, section: Domain | None = None, **changes: object) -> str:
        """Return what a deploy that must not change anything says."""
        before = self.list_there()
        with pytest.raises(XenkilnError) as caught:
            self.run(section, **changes)
        assert self.list_there() == before
        assert not any(" create" in call for call in self.calls)
        return str(caught.value)

    def list_there(self) -> dict[str, str]:
        files = [path for folder in (self.there, self.etc) if folder.exists() for path in folder.rglob("*")]
        return {str(path): hash_file(path) for path in files if path.is_file()}

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def stop_domain(self) -> None:
        (self.folder / "domains").write_text("")
        (self.folder / "calls").write_text("")
