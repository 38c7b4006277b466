"""Where a kernel comes from, which one is the newest, and what is said when there is none."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenkiln.errors import BuildError
from xenkiln.kernels.formats import ELF
from xenkiln.kernels.install import (
    find_kernel_problems,
    find_newest_kernel,
    list_kernel_files,
    locate_kernel,
    make_kernel_step,
    make_module_steps,
    split_version,
)
from xenkiln.model.image import Kernel
from xenkiln.system.commands import Runner
from xenkiln.system.execution import Context
from xenkiln.system.files import fixed_umask, resolve_in_root
from xenkiln.system.layout import Paths
from xenkiln.system.steps import Do

PACKAGE = Kernel()
NO_KERNEL = "is no kernel: neither a bzImage nor an ELF file, plain or packed by gzip"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/boot").mkdir(parents=True)
    return tmp_path / "root"


def add_kernels(root: Path, *names: str) -> None:
    for name in names:
        (root / "boot" / name).write_bytes(ELF + name.encode())


@pytest.mark.parametrize("versions", [
    ("6.1.0-9-amd64", "6.1.0-10-amd64"),
    ("6.1.0-28-cloud-amd64", "6.1.0-29-cloud-amd64"),
    ("2.6.18-92.el5xen", "2.6.18-128.1.6.el5xen"),
    ("2.6.32-9-server", "2.6.32-21-server", "3.2.0-1-server"),
    ("0-rescue-0123456789abcdef", "3.10.0-1160.el7.x86_64"),
    ("5.14.0-70.el9", "5.14.0-427.13.1.el9_4.x86_64"),
    ("5.9", "5.10", "6.0", "10.0"),
])  # fmt: skip
def test_the_newest_is_the_newest_by_number(versions: tuple[str, ...], root: Path) -> None:
    add_kernels(root, *(f"vmlinuz-{version}" for version in versions))
    assert find_newest_kernel(root, None) == (versions[-1], root / f"boot/vmlinuz-{versions[-1]}")


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF), max_size=12), min_size=1))
def test_any_names_can_be_put_in_order(versions: list[str]) -> None:
    assert max(versions, key=split_version) in versions


numbers = st.tuples(*[st.integers(0, 999)] * 4)


@given(numbers, numbers)
def test_numbers_are_compared_as_numbers(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    versions = [split_version("{}.{}.{}-{}-xen".format(*parts)) for parts in (left, right)]
    assert (versions[0] < versions[1]) == (left < right)


def test_the_wanted_version_is_taken(root: Path) -> None:
    add_kernels(root, "vmlinuz-5.10.0-1", "vmlinuz-6.1.0-1")
    assert find_newest_kernel(root, "5.10.0-1")[0] == "5.10.0-1"


def test_a_wanted_version_that_is_not_there_is_named_beside_those_that_are(root: Path) -> None:
    add_kernels(root, "vmlinuz-5.10.0-1", "vmlinuz-6.1.0-1", "config-6.1.0-1", "initrd.img-6.1.0-1")
    with pytest.raises(BuildError, match=r"no kernel 7\.0 in the image, there is: 5\.10\.0-1, 6\.1\.0-1"):
        find_newest_kernel(root, "7.0")


@pytest.mark.parametrize("name", ["", "config-6.1.0-1", ".vmlinuz-6.1.0-1.hmac", "vmlinuz.old"])
def test_no_kernel_at_all_is_said(name: str, root: Path) -> None:
    if name:
        add_kernels(root, name)
    with pytest.raises(BuildError, match="brought no kernel") as failure:
        find_newest_kernel(root, None)
    assert "packages.install" in failure.value.next_step


@pytest.mark.parametrize("target", ["/usr/lib/modules/6.1.0-1/vmlinuz", "../usr/lib/modules/6.1.0-1/vmlinuz"])
def test_a_kernel_may_be_a_link_within_the_image(target: str, root: Path) -> None:
    real = root / "usr/lib/modules/6.1.0-1/vmlinuz"
    real.parent.mkdir(parents=True)
    real.write_text("kernel")
    (root / "boot/vmlinuz-6.1.0-1").symlink_to(target)
    assert find_newest_kernel(root, None) == ("6.1.0-1", real)


def test_a_link_that_leads_nowhere_or_out_is_no_kernel(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("host's")
    (root / "boot/vmlinuz-9").symlink_to("gone")
    (root / "boot/vmlinuz-8").symlink_to(tmp_path / "outside")
    (root / "boot/vmlinuz-7").symlink_to("../../outside")
    add_kernels(root, "vmlinuz-6")
    assert find_newest_kernel(root, None)[0] == "6"


def test_the_hosts_own_kernel_is_the_running_one_or_the_wanted_one() -> None:
    running = os.uname().release
    assert locate_kernel(Kernel(source="host"), Path("/recipes")) == (
        running, Path(f"/boot/vmlinuz-{running}"), Path(f"/lib/modules/{running}"))  # fmt: skip
    assert locate_kernel(Kernel(source="host", version="2.6.18-el5xen"), Path("/recipes"))[1] == Path(
        "/boot/vmlinuz-2.6.18-el5xen"
    )


@pytest.mark.parametrize(("kernel", "version"), [
    (Kernel(source="files", vmlinuz="vmlinuz-2.6.18-xen"), "2.6.18-xen"),
    (Kernel(source="files", vmlinuz="k/vmlinuz", modules="k/modules/2.6.18-xen"), "2.6.18-xen"),
    (Kernel(source="files", vmlinuz="vmlinuz", modules="m", version="2.6.18-xen"), "2.6.18-xen"),
    (Kernel(source="files", vmlinuz="vmlinuz"), ""),
])  # fmt: skip
def test_the_version_of_files_comes_from_their_names(kernel: Kernel, version: str) -> None:
    assert locate_kernel(kernel, Path("/recipes"))[0] == version


@pytest.mark.parametrize(("kernel", "facts"), [
    (PACKAGE, []),
    (Kernel(source="host", version="0.0-none"), ["no such kernel", "no such folder of kernel modules"]),
    (Kernel(source="files", vmlinuz="vmlinuz"), ["the kernel's version is not known", "no such kernel"]),
    (Kernel(source="files", vmlinuz="there-1.0", modules="modules/1.0"), ["no such folder of kernel modules"]),
    (Kernel(source="files", vmlinuz="there-1.0"), []),
    (Kernel(source="files", vmlinuz="junk-1.0"), [NO_KERNEL]),
])  # fmt: skip
def test_what_is_missing_is_known_before_a_build(kernel: Kernel, facts: list[str], tmp_path: Path) -> None:
    (tmp_path / "there-1.0").write_bytes(ELF)
    (tmp_path / "junk-1.0").write_text("junk\n")
    problems = find_kernel_problems(kernel, tmp_path)
    assert [problem.fact for problem in problems] == facts
    assert all(problem.place and problem.next_step for problem in problems)


def test_another_kernel_counts_as_a_change(tmp_path: Path) -> None:
    """Every module counts, not only the list of them."""
    kernel = make_modules(tmp_path)
    found = [str(path.relative_to(tmp_path)) for path in list_kernel_files(kernel, tmp_path)]
    assert found == ["vmlinuz-1.0", "modules/1.0/kernel/alias.ko", "modules/1.0/kernel/drivers/loop.ko",
                     "modules/1.0/modules.dep"]  # fmt: skip
    assert list_kernel_files(PACKAGE, tmp_path) == []


def make_context(folder: Path) -> Context:
    return Context(Paths("img", folder, folder), Runner(), lambda text: None)


def test_modules_are_copied_without_the_links_into_the_host(root: Path, tmp_path: Path) -> None:
    modules = tmp_path / "recipes/modules/1.0"
    (modules / "kernel").mkdir(parents=True)
    (modules / "kernel/xen-blkfront.ko").write_text("module")
    (modules / "build").symlink_to("/usr/src/linux-headers-1.0")
    kernel = Kernel(source="files", vmlinuz="vmlinuz-1.0", modules="modules/1.0")
    (step,) = make_module_steps(kernel, tmp_path / "recipes", root)
    assert isinstance(step, Do)
    step.function(make_context(tmp_path))
    assert (root / "lib/modules/1.0/kernel/xen-blkfront.ko").read_text() == "module"
    assert not (root / "lib/modules/1.0/build").is_symlink()


def test_the_kernel_is_taken_and_its_version_noted(root: Path, tmp_path: Path) -> None:
    add_kernels(root, "vmlinuz-6.1.0-1")
    (root / "lib/modules/6.1.0-1").mkdir(parents=True)
    step = make_kernel_step(PACKAGE, tmp_path, root, tmp_path / "vmlinuz")
    context = make_context(tmp_path)
    assert isinstance(step, Do)
    step.function(context)
    assert (tmp_path / "vmlinuz.partial").read_bytes() == ELF + b"vmlinuz-6.1.0-1"
    assert context.values["kernel_version"] == "6.1.0-1"


def test_a_kernel_without_modules_is_refused(root: Path, tmp_path: Path) -> None:
    add_kernels(root, "vmlinuz-6.1.0-1")
    step = make_kernel_step(PACKAGE, tmp_path, root, tmp_path / "vmlinuz")
    assert isinstance(step, Do)
    with pytest.raises(BuildError, match=r"6\.1\.0-1 has no modules in the image"):
        step.function(make_context(tmp_path))


def test_a_package_whose_kernel_is_none_is_refused(root: Path, tmp_path: Path) -> None:
    add_kernels(root, "vmlinuz-6.1.0-1")
    (root / "boot/vmlinuz-6.1.0-1").write_text("junk\n")
    (root / "lib/modules/6.1.0-1").mkdir(parents=True)
    step = make_kernel_step(PACKAGE, tmp_path, root, tmp_path / "vmlinuz")
    assert isinstance(step, Do)
    with pytest.raises(BuildError, match=f"^/boot/vmlinuz-6.1.0-1: {NO_KERNEL}"):
        step.function(make_context(tmp_path))
    assert not (tmp_path / "vmlinuz.partial").exists()


def make_modules(folder: Path) -> Kernel:
    """Modules of version 1.0 beside a recipe."""
    modules = folder / "modules/1.0"
    (modules / "kernel/drivers").mkdir(parents=True)
    (modules / "kernel/drivers/loop.ko").write_text("loop")
    (modules / "modules.dep").write_text("dep")
    (modules / "kernel/alias.ko").symlink_to("drivers/loop.ko")
    for name in ("build", "source"):
        (modules / name).symlink_to("/usr/src/linux-headers-1.0")
    return Kernel(source="files", vmlinuz="vmlinuz-1.0", modules="modules/1.0")


def test_modes_and_times_of_a_checkout_do_not_come_into_the_image(root: Path, tmp_path: Path) -> None:
    kernel = make_modules(tmp_path)
    modules = tmp_path / "modules/1.0"
    (modules / "empty").mkdir()
    (modules / "modules.dep").chmod(0o4775)
    (modules / "kernel/drivers").chmod(0o700)
    for path in [modules, *modules.rglob("*")]:
        os.utime(path, (1, 1), follow_symlinks=False)
    (step,) = make_module_steps(kernel, tmp_path, root)
    assert isinstance(step, Do)
    with fixed_umask():
        step.function(make_context(tmp_path))
    copied = root / "lib/modules/1.0"
    found = {str(path.relative_to(copied)): path.lstat() for path in [copied, *copied.rglob("*")]}
    assert found.keys() == {".", "kernel", "kernel/alias.ko", "kernel/drivers", "kernel/drivers/loop.ko", "modules.dep"}
    modes = {name: stat.S_IMODE(one.st_mode) for name, one in found.items() if not stat.S_ISLNK(one.st_mode)}
    assert modes == {name: 0o755 if (copied / name).is_dir() else 0o644 for name in modes}
    assert all(one.st_mtime > 1 for one in found.values())


@pytest.mark.parametrize("place", ["lib/modules/1.0", "lib/modules/1.0/kernel", "lib/modules/1.0/kernel/drivers",
                                   "lib/modules/1.0/kernel/drivers/loop.ko", "lib/modules", "lib"])  # fmt: skip
def test_no_link_of_a_package_leads_the_copy_out_of_the_image(place: str, root: Path, tmp_path: Path) -> None:
    kernel = make_modules(tmp_path / "recipes")
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "loop.ko").write_text("host's")
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).symlink_to(victim / "loop.ko" if place.endswith(".ko") else victim)
    (step,) = make_module_steps(kernel, tmp_path / "recipes", root)
    assert isinstance(step, Do)
    step.function(make_context(tmp_path))
    assert [path.name for path in victim.rglob("*")] == ["loop.ko"]
    assert (victim / "loop.ko").read_text() == "host's"
    copied = resolve_in_root(root, "/lib/modules/1.0/kernel")
    assert copied.is_relative_to(root)
    assert resolve_in_root(root, "/lib/modules/1.0/kernel/drivers/loop.ko").read_text() == "loop"
    assert (copied / "alias.ko").readlink() == Path("drivers/loop.ko")
