"""The real repository of the tiny guest, made once per test run by the host's own apt."""

from __future__ import annotations

import subprocess
from pathlib import Path

from xenkiln.pipeline import make_context
from xenkiln.stages import repository
from xenkiln.system.execution import Context, run_steps
from xenkiln.system.files import fixed_umask
from xenkiln.system.layout import Paths

INPUTS = repository.Inputs(("tiny",), "x86_64")
YUM_CONF = """\
[main]
reposdir=/nonexistent
plugins=0
install_weak_deps=0
cachedir={folder}/dnf-cache
logdir={folder}
[tiny]
name=tiny
baseurl=file://{repository}
gpgcheck=0
"""


def make_paths(build: Path) -> Paths:
    return Paths("tiny", build, build / "recipes")


def make_repository(build: Path) -> Context:
    """Run the stage's steps in a build folder; the context that they leave."""
    paths = make_paths(build)
    context = make_context("repository", paths, lambda text: None)
    with fixed_umask():
        run_steps(repository.make_steps(INPUTS, paths), context)
    return context


def install_base(made: Path, root: Path, folder: Path) -> None:
    """Install the group `base` with the real dnf; scriptlets run inside the root."""
    conf = folder / "yum.conf"
    conf.write_text(YUM_CONF.format(folder=folder, repository=made))
    (root / "dev").mkdir(parents=True)
    subprocess.run(["mknod", "-m", "0666", root / "dev/null", "c", "1", "3"], check=True)
    subprocess.run(
        ["unshare", "--mount", "dnf", "-q", "-y", "-c", conf, f"--installroot={root}", "--releasever=1",
         "--setopt=tsflags=", "groupinstall", "base"], check=True, capture_output=True)  # fmt: skip
