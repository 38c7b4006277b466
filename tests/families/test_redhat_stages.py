"""A small distribution of the shape of CentOS 6, made into a configured tree by the real stages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from repositories import Rpm, make_repository, wrap_shell

from xenkiln import pipeline
from xenkiln.errors import BuildError
from xenkiln.model.loader import LoadedImage, load_image
from xenkiln.model.lock import dump_lock
from xenkiln.model.records import Record
from xenkiln.stages import packages
from xenkiln.system.commands import Runner
from xenkiln.system.mounts import mount_image, mount_overlay

pytestmark = pytest.mark.root

STAGES = ("packages", "filesystem", "bootstrap", "configure")
RECIPE = """\
summary: A small distribution of the shape of CentOS 6
family: redhat
release: "6.10"
arch: x86_64
disks:
  root: {{size_mib: 64, filesystem: ext4, device: xvda1, grow: true}}
  swap: {{size_mib: 8, device: xvda2}}
packages:
  repositories:
    - name: base
      title: Base
      baseurls: ["{url}"]
  groups: [base]
  signatures: not checked
configure:
  hostname: small
  timezone: Europe/Amsterdam
  load_modules: [loop]
  root_password: {{hash: "!"}}
  disable_tls: true
ramdisk: {{maker: dracut}}
"""
# chkconfig of CentOS 6, as far as it is asked; it reads the script's own header.
CHKCONFIG = """\
#!/bin/sh
[ "$1" = --add ] && [ $# -eq 2 ] || { echo "usage: chkconfig --add <name>" >&2; exit 1; }
while read -r mark key levels start stop; do
    if [ "$mark $key" = "# chkconfig:" ]; then
        echo "$2 $levels $start $stop" >>/etc/chkconfig-was-asked
        exit 0
    fi
done <"/etc/rc.d/init.d/$2"
exit 1
"""


def make_mirror(folder: Path) -> Path:
    setup = {
        "/etc/passwd": "root::0:0:root:/root:/bin/sh\n",
        "/etc/group": "root::0:\n",
        "/etc/securetty": "tty1\n",
        "/etc/selinux/config": "SELINUX=enforcing\n",
        "/usr/share/zoneinfo/Europe/Amsterdam": "TZif2\n",
        "/lib/tls/libc.so": "library\n",
        # Stands in for coreutils; the wrapped shell has no cp and no mv of its own.
        "/bin/cp": '#!/bin/sh\nwhile IFS= read -r line; do echo "$line"; done <"$1" >"$2"\n',
        "/bin/mv": '#!/bin/sh\n[ $# -eq 2 ] && echo "$1 $2" >/etc/mv-was-asked\n',
        "/sbin/chkconfig": CHKCONFIG,
    }
    folders = ("/proc", "/sys", "/dev", "/etc/rc.d/init.d", "/etc/sysconfig", "/etc/init", "/root")
    rpms = [wrap_shell(), Rpm("filesystem", folders=folders),
            Rpm("setup", setup, requires=("filesystem", "shell"), post="echo done >/etc/set-up")]  # fmt: skip
    return make_repository(folder, rpms, {"base": ["setup"]})


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mirror(tmp_path_factory.mktemp("mirror") / "base")


@pytest.fixture
def image(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedImage:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "small.yaml").write_text(RECIPE.format(url=mirror.as_uri()))
    monkeypatch.setenv("XENKILN_RECIPES", str(recipes))
    monkeypatch.setenv("XENKILN_BUILD", str(tmp_path / "build"))
    monkeypatch.delenv("XENKILN_CACHE", raising=False)
    return load_image(recipes / "small.yaml")


def build(image: LoadedImage, stages: tuple[str, ...] = STAGES) -> dict[str, Record]:
    return {name: pipeline.run_stage(name, image, lambda text: None) for name in stages}


@contextmanager
def look_into(image: LoadedImage) -> Iterator[Path]:
    """The merged tree of what the stages left."""
    paths = pipeline.paths_for(image)
    runner, place = Runner(), paths.work / "look"
    with ExitStack() as stack:
        stack.enter_context(mount_image(runner, paths.layer("bootstrap"), place / "base", read_only=True))
        stack.enter_context(mount_image(runner, paths.layer("configure"), place / "top", read_only=True))
        stack.enter_context(mount_overlay(runner, [place / "top/upper", place / "base"], None, place / "root"))
        yield place / "root"


def test_the_stages_make_the_guest_of_the_recipe(image: LoadedImage) -> None:
    records = build(image)
    assert records["bootstrap"].result == "3 packages installed, as planned"
    with look_into(image) as root:
        assert (root / "etc/set-up").read_text() == "done\n"
        assert (root / "etc/sysconfig/network").read_text() == "NETWORKING=yes\nHOSTNAME=small\n"
        assert (root / "etc/fstab").read_text().split()[:3] == ["/dev/xvda1", "/", "ext4"]
        assert (root / "etc/securetty").read_text() == "tty1\nhvc0\n"
        assert (root / "etc/selinux/config").read_text() == "SELINUX=permissive\n"
        assert "agetty /dev/hvc0" in (root / "etc/init/hvc0.conf").read_text()
        assert (root / "etc/localtime").read_text() == "TZif2\n"
        assert (root / "etc/mv-was-asked").read_text() == "/lib/tls /lib/tls.disabled\n"
        assert (root / "etc/chkconfig-was-asked").read_text() == "xenkiln-grow-root 2345 02 98\n"
        assert (root / "etc/passwd").read_text().startswith("root:x:0:0:")
        assert (root / "etc/sysconfig/modules/xenkiln.modules").stat().st_mode & 0o111
        assert sorted(path.name for path in (root / "dev").iterdir()) == ["console", "null", "zero"]
        assert (root / "var/lib/rpm/rpmdb.sqlite").is_file()
        assert not (root / "proc/self").exists()


def test_a_lock_installs_the_same_and_names_what_is_gone(image: LoadedImage, mirror: Path, tmp_path: Path) -> None:
    build(image, ("packages",))
    paths = pipeline.paths_for(image)
    plan = packages.read_plan(paths)
    paths.lock.write_text(dump_lock(plan, "small"))
    assert str(mirror) not in paths.lock.read_text(), "a lock names no mirror"
    assert "as locked" in build(image, ("packages",))["packages"].result
    assert packages.read_plan(paths) == plan

    moved = shutil.copytree(mirror, tmp_path / "moved")
    (moved / "setup-1.0-1.noarch.rpm").unlink()
    shutil.rmtree(paths.cache)
    recipe = paths.recipes / "small.yaml"
    recipe.write_text(recipe.read_text().replace(mirror.as_uri(), moved.as_uri()))
    with pytest.raises(BuildError, match=r"setup 1\.0-1 noarch") as caught:
        build(load_image(recipe), ("packages",))
    assert "doit lock:small" in caught.value.next_step
