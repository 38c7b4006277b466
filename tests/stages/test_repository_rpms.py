"""Packages made here by the real rpmbuild, on a host whose administrator has settings for rpm."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path

import pytest

from xenkiln.repositories.tiny import rpms
from xenkiln.system.commands import Runner
from xenkiln.system.execution import Context
from xenkiln.system.layout import Paths
from xenkiln.system.mounts import mount_overlay


@pytest.mark.root
def test_what_this_host_sets_for_rpm_does_not_reach_the_packages(tmp_path: Path) -> None:
    hostile = tmp_path / "hostile"
    (hostile / "rpm").mkdir(parents=True)
    (hostile / "rpm/macros").write_text("%_binary_filedigest_algorithm 1\n%distribution mine\n")
    (hostile / "rpm/macros.more").write_text("%disturl http://mine/\n")
    (hostile / "rpmrc").write_text("no such setting\n")
    hashes = []
    for lower in ([hostile, Path("/etc")], []):
        folder = tmp_path / f"{len(lower)}"
        context = Context(Paths("tiny", folder / "build", folder), Runner(), lambda text: None)
        work, output = folder / "work", folder / "output"
        for place in (work, output, folder / "trees/a/etc"):
            place.mkdir(parents=True)
        (folder / "trees/a/etc/a").write_text("a")
        with ExitStack() as stack:
            if lower:  # seen by this process alone: the host's own /etc is not written to
                stack.enter_context(mount_overlay(context.runner, lower, None, Path("/etc")))
                assert context.read(["rpm", "--rcfile=/usr/lib/rpm/rpmrc", "-E", "%distribution"]) == "mine\n"
            rpms.build_rpms([rpms.Rpm("a", "1-1", "MIT", "A")], folder / "trees", work, output, 1_600_000_000, context)
        hashes.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in output.rglob("*.rpm")])
    assert len(hashes[0]) == 1
    assert hashes[0] == hashes[1]
