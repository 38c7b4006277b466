"""A mount namespace in which only the build folder and the package cache can be written.

What a build would change elsewhere fails as "Read-only file system", or is found in a layer over /tmp and
/var/tmp. So a test can say that nothing outside changed, whatever else happens on this machine meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xenkiln.system.layout import PROJECT

DOIT = (sys.executable, "-m", "doit")
STRUCK_DOIT = (sys.executable, str(Path(__file__).with_name("struck_doit.py")))
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
WAIT_SECONDS = 15

SETUP = """
set -e
mount -t tmpfs tmpfs /mnt
mkdir -p "/mnt/$1" /mnt/cache
mount --bind "$2" "/mnt/$1"
mount --bind "$3" /mnt/cache
for folder in tmp var/tmp; do
    mkdir -p "/mnt/layers/$folder/upper" "/mnt/layers/$folder/work"
    mount -t overlay -o "lowerdir=/$folder,upperdir=/mnt/layers/$folder/upper,workdir=/mnt/layers/$folder/work" \\
        overlay "/$folder"
done
mount --bind /mnt/cache "$3"
mount -o remount,bind,ro /
echo ready
exec cat
"""


@dataclass(frozen=True)
class Cage:
    """The namespace's first process, and the build folder as it is called inside and outside."""

    process: subprocess.Popen[str]
    inside: Path
    outside: Path
    cache: Path

    def start(self, argv: Sequence[str], recipes: Path) -> subprocess.Popen[str]:
        """Start a command inside; both outputs in one pipe."""
        environment = {**os.environ, "XENKILN_BUILD": str(self.inside), "XENKILN_CACHE": str(self.cache),
                       "XENKILN_RECIPES": str(recipes), "PYTHONPATH": str(PROJECT),
                       "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
        return subprocess.Popen(
            ["nsenter", "--mount", f"--target={self.process.pid}", f"--wdns={PROJECT}", *argv],
            env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def run(self, argv: Sequence[str], recipes: Path) -> tuple[int, str]:
        """Run a command inside to its end; its exit code and what it said."""
        with self.start(argv, recipes) as process:
            output, _ = process.communicate()
        return process.returncode, output

    @property
    def process_root(self) -> Path:
        """The namespace's files, as this process can read them."""
        return Path(f"/proc/{self.process.pid}/root")

    def list_strangers(self) -> list[str]:
        """Processes that a run left behind: as our children, because orphans come to us."""
        children = set()
        for task in Path("/proc/self/task").iterdir():
            children |= {int(pid) for pid in (task / "children").read_text().split()}
        found = []
        for pid in children - {self.process.pid}:
            try:
                if os.waitpid(pid, os.WNOHANG) == (0, 0):
                    found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
            except (ChildProcessError, OSError):
                continue  # it ended meanwhile
        return found

    def list_loops(self) -> list[str]:
        """Loop devices over files of the build folder."""
        found = []
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            try:
                text = backing.read_text()
            except OSError:
                continue
            if self.inside.name in text:
                found.append(f"{backing}: {text}")
        return found

    def list_mounts(self) -> list[str]:
        """Mounts below the build folder, as seen inside."""
        lines = Path(f"/proc/{self.process.pid}/mountinfo").read_text().splitlines()
        return [line for line in lines if line.split()[4].startswith(f"{self.inside}/")]

    def list_changes_outside(self) -> list[str]:
        """Files written into /tmp and /var/tmp; everywhere else writing is impossible."""
        layers = self.process_root / "mnt" / "layers"
        return [str(path) for layer in layers.rglob("upper") for path in layer.rglob("*")]

    def check_nothing_is_left(self) -> None:
        """Fail unless processes, mounts and loop devices are gone, and nothing outside was changed."""
        wait_until_empty(self.list_strangers)
        wait_until_empty(self.list_loops)
        assert self.list_mounts() == []
        assert self.list_changes_outside() == []


def wait_until_empty(find: Callable[[], list[str]]) -> None:
    """Autoclear, and the end of a namespace, come a moment after the process that caused them."""
    deadline = time.monotonic() + WAIT_SECONDS
    while found := find():
        assert time.monotonic() < deadline, found
        time.sleep(0.01)


@contextmanager
def open_cage(build: Path) -> Iterator[Cage]:
    """A cage whose only writable folders are `build` and the shared package cache."""
    cache = Path(os.environ.get("XENKILN_CACHE") or PROJECT / "build" / "cache")
    cache.mkdir(parents=True, exist_ok=True)
    name = f"xenkiln-cage-{os.getpid()}-{build.name}"
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", SETUP, "sh", name, str(build), str(cache)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield Cage(process, Path("/mnt") / name, build, cache)
        finally:
            process.stdin.close()


def copy_recipes(folder: Path, *names: str) -> Path:
    """The tiny recipe, once for each name, in a folder of its own; the first one is the default."""
    folder.mkdir()
    text = (PROJECT / "recipes" / "images" / "tiny.yaml").read_text()
    for name in names:
        default = str(name == names[0]).lower()
        (folder / f"{name}.yaml").write_text(text.replace("default: true", f"default: {default}"))
    return folder
