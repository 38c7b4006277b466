"""The shipped recipes of this family as a plan shows them, held against golden files and the article itself."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import FakeToolMaker

from xenkiln.families import redhat
from xenkiln.installers import dnf
from xenkiln.installers.yum_commands import list_sources, render_conf
from xenkiln.model.image import RootDisk
from xenkiln.model.loader import LoadedImage, load_image
from xenkiln.ramdisks.contract import load_ramdisk_maker
from xenkiln.stages import configure, packages
from xenkiln.system.execution import show_step
from xenkiln.system.layout import PROJECT, Paths
from xenkiln.system.steps import Run, Step, Write, show_argument

GOLDEN = Path(__file__).parents[1] / "golden/redhat"
RECIPES = PROJECT / "recipes/images"
ROOT = Path("/mnt/root")
NAMES = ("centos-5.2", "centos-7", "rocky-9")
PARTS = ("conf", "bootstrap", "configure", "ramdisk")


def load(name: str) -> LoadedImage:
    return load_image(RECIPES / f"{name}.yaml")


def paths_of(name: str) -> Paths:
    return Paths(name, Path("/build"), Path("/recipes"))


def make_steps(name: str, part: str) -> list[Step]:
    loaded = load(name)
    if part == "bootstrap":
        return dnf.make_bootstrap_steps(packages.slice_recipe(loaded), paths_of(name).work / "packages", ROOT)
    if part == "configure":
        return list(redhat.make_configure_steps(configure.slice_recipe(loaded).guest, ROOT))
    recipe = loaded.recipe
    maker = load_ramdisk_maker(recipe.ramdisk.maker)
    return maker.make_ramdisk_steps(recipe.ramdisk, recipe.disks.root.filesystem, ROOT, "/tmp/initrd.img")


def render(name: str, part: str) -> str:
    if part == "conf":
        selection = packages.slice_recipe(load(name))
        required = selection.packages.signatures == "required"
        return render_conf(selection, list_sources(selection, paths_of(name)), gpgcheck=required)
    return "".join(f"{line}\n" for step in make_steps(name, part) for line in show(step))


def show(step: Step) -> Iterator[str]:
    """A step as a plan has it; of a program that goes into the guest just its name."""
    lines = list(show_step(step))
    yield from lines[:1] if isinstance(step, Write) and step.mode == 0o755 else lines


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", NAMES)
def test_the_plan_is_the_golden_one(name: str, part: str, fake_tool: FakeToolMaker) -> None:
    fake_tool("dnf")
    assert render(name, part) == (GOLDEN / f"{name}.{part}").read_text()


def test_the_golden_files_are_all_used() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {f"{name}.{part}" for name in NAMES for part in PARTS}


ARTICLE_CONF = """\
[main]
cachedir=/var/cache/yum
keepcache=0
debuglevel=2
logfile=/var/log/yum.log
distroverpkg=redhat-release
tolerant=1
exactarch=1
obsoletes=1
gpgcheck=0
plugins=1
metadata_expire=1h
[base]
name=CentOS-5.2 - Base
baseurl=http://mirror.centos.org/centos/5.2/os/i386/
enabled=1
[extras]
name=CentOS-5.2 - Extras
baseurl=http://mirror.centos.org/centos/5.2/extras/i386/
enabled=1
[updates]
name=CentOS-5.2 - Updates
baseurl=http://mirror.centos.org/centos/5.2/updates/i386/
enabled=1
[addons]
name=CentOS-5.2 - Addons
baseurl=http://mirror.centos.org/centos/5.2/addons/i386/
enabled=1
"""
ARTICLE_FSTAB = """\
/dev/sda1   /          ext3     defaults         1 1
none        /dev/pts   devpts   gid=5,mode=620   0 0
none        /dev/shm   tmpfs    defaults         0 0
none        /proc      proc     defaults         0 0
none        /sys       sysfs    defaults         0 0
"""


def test_the_conf_has_every_line_of_the_article_in_its_order() -> None:
    # The release ended: its mirror is the vault now.
    article = ARTICLE_CONF.replace("mirror.centos.org/centos/", "vault.centos.org/").splitlines()
    ours = render("centos-5.2", "conf").splitlines()
    assert [line for line in ours if line in article] == article
    added = {line.partition("=")[0] for line in ours if line and line not in article}
    assert added == {
        "# The host's own configuration stays out: its repositories, variables and plugins.",
        "reposdir", "varsdir", "pluginpath", "pluginconfpath", "install_weak_deps", "skip_if_unavailable", "deltarpm",
        "timeout", "retries"}  # fmt: skip


def test_the_files_are_those_of_the_article() -> None:
    steps = make_steps("centos-5.2", "configure")
    written = {step.path: str(step.content) for step in steps if isinstance(step, Write)}
    fields = [line.split() for line in written["/etc/fstab"].splitlines()]
    assert fields == [line.split() for line in ARTICLE_FSTAB.splitlines()]
    for name in ("eth0", "eth1"):
        ours = written[f"/etc/sysconfig/network-scripts/ifcfg-{name}"]
        assert ours == f"DEVICE={name}\nBOOTPROTO=dhcp\nONBOOT=yes\n"
    assert written["/etc/sysconfig/network"] == "NETWORKING=yes\nHOSTNAME=centos52\n"


def list_commands(name: str, part: str) -> list[str]:
    return [shlex.join(map(show_argument, step.argv)) for step in make_steps(name, part) if isinstance(step, Run)]


def test_old_yum_is_called_as_in_the_article(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xenkiln.installers.yum_commands.find_tool", lambda name: {"yum": "/usr/bin/yum"}.get(name))
    article = "yum -c /root/xen-image/yum-xen.conf --installroot=/root/xen-image/rootdisk -y"
    ours = article.replace("/root/xen-image/rootdisk", str(ROOT)).replace(
        "/root/xen-image/", "/build/work/centos-5.2/installer/")  # fmt: skip
    assert list_commands("centos-5.2", "bootstrap") == [
        f"setarch i386 {ours} groupinstall base", f"setarch i386 {ours} install openssh openssh-server"]  # fmt: skip


def test_mkinitrd_is_called_as_in_the_article() -> None:
    article = "mkinitrd --omit-scsi-modules --with=xennet --with=xenblk --preload=xenblk"
    assert list_commands("centos-5.2", "ramdisk") == [f"{article} /tmp/initrd.img '$kernel_version'"]


def test_tls_is_moved_away_as_in_the_article() -> None:
    assert "mv /lib/tls /lib/tls.disabled" in " ".join(list_commands("centos-5.2", "configure"))


def test_the_filesystem_is_one_that_the_release_reads() -> None:
    old = redhat.get_filesystem_profile("5.2", "ext3")
    assert old.inode_size == 128
    assert set(old.features) == {
        "has_journal", "ext_attr", "resize_inode", "dir_index", "filetype", "sparse_super", "large_file"}  # fmt: skip
    assert "metadata_csum" not in redhat.get_filesystem_profile("7.9.2009", "ext4").features
    assert "metadata_csum" in redhat.get_filesystem_profile("9", RootDisk(size_mib=64).filesystem).features
