"""Where the kernel comes from, and its modules in the image."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from xenkiln.errors import BuildError, HostError, XenkilnError
from xenkiln.kernels.formats import find_format_problem
from xenkiln.model.image import Kernel
from xenkiln.system.execution import Context
from xenkiln.system.files import copy_sparse, partial_path, resolve_in_root
from xenkiln.system.steps import Do, Step

IMAGE_NAMES = ("vmlinuz-", "vmlinux-", "kernel-")
HOST_TREES = (("build",), ("source",))


def locate_kernel(kernel: Kernel, recipes: Path) -> tuple[str, Path, Path | None]:
    """(version, vmlinuz, modules folder) of a kernel that comes from the host or from files.

    A modules folder is named for its version; without one the version is in vmlinuz's own name.
    """
    if kernel.source == "host":
        version = kernel.version or os.uname().release
        return version, Path(f"/boot/vmlinuz-{version}"), Path(f"/lib/modules/{version}")
    vmlinuz = recipes / (kernel.vmlinuz or "")
    modules = recipes / kernel.modules if kernel.modules else None
    version = kernel.version or (modules.name if modules else vmlinuz.name.partition("-")[2])
    return version, vmlinuz, modules


def find_kernel_problems(kernel: Kernel, recipes: Path) -> list[XenkilnError]:
    """A kernel or module folder that is not there, a file that is no kernel."""
    if kernel.source == "package":
        return []
    version, vmlinuz, modules = locate_kernel(kernel, recipes)
    advice = "install that kernel on this host, or take it from a package or files (the recipe's kernel.source)"
    problems: list[XenkilnError] = []
    if not version:
        problems.append(HostError("the kernel's version is not known", place=str(vmlinuz),
                                  next_step="give kernel.version"))  # fmt: skip
    if not vmlinuz.is_file():
        problems.append(HostError("no such kernel", place=str(vmlinuz), next_step=advice))
    # Some distributions let only root read their kernels; who only plans is not told more than that.
    elif os.access(vmlinuz, os.R_OK) and (problem := find_format_problem(vmlinuz, str(vmlinuz))):
        problems.append(problem)
    if modules and not modules.is_dir():
        problems.append(HostError("no such folder of kernel modules", place=str(modules), next_step=advice))
    return problems


def list_kernel_files(kernel: Kernel, recipes: Path) -> list[Path]:
    """Files whose change means another kernel: vmlinuz, and all in the folder of its modules."""
    if kernel.source == "package":
        return []
    _, vmlinuz, modules = locate_kernel(kernel, recipes)
    found = [path for _, paths in _walk_modules(modules) for path in paths] if modules else []
    return [vmlinuz, *sorted(found)]


def _walk_modules(modules: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Each folder of modules that holds files or links, with these, the innermost folders first."""
    for top, folders, files in os.walk(modules, topdown=False):
        folder = Path(top)
        links = [name for name in folders if (folder / name).is_symlink()]
        found = [folder / name for name in (*links, *files)]
        # `build` and `source` lead into the host's own tree.
        if folder.relative_to(modules).parts[:1] not in HOST_TREES:
            kept = [path for path in found if path.relative_to(modules).parts not in HOST_TREES]
            # An empty folder would be in the image and not in what is compared to see a change.
            if kept:
                yield folder, kept


def make_module_steps(kernel: Kernel, recipes: Path, root: Path) -> list[Step]:
    """The modules of a kernel that is not from a package, copied into the image."""
    if kernel.source == "package":
        return []
    version, _, modules = locate_kernel(kernel, recipes)
    if modules is None:
        return []

    def copy_modules(context: Context) -> None:
        for folder, paths in _walk_modules(modules):
            # Each folder anew: a package may have put a link anywhere below.
            target = resolve_in_root(root, f"/lib/modules/{version}/{folder.relative_to(modules)}")
            target.mkdir(parents=True, exist_ok=True)
            target.chmod(0o755)
            for path in paths:
                _copy_plainly(path, target / path.name)

    return [Do(f"copy the modules of kernel {version}", copy_modules, writes=(root / "lib/modules" / version,))]


def _copy_plainly(source: Path, target: Path) -> None:
    """Copy a link as a link and a file's content, without modes and times: those of a checkout are chance.

    What is made now gets the build's date when the image is sealed.
    """
    target.unlink(missing_ok=True)
    shutil.copyfile(source, target, follow_symlinks=False)
    if not target.is_symlink():
        target.chmod(0o644)


def make_kernel_step(kernel: Kernel, recipes: Path, root: Path, output: Path) -> Step:
    """The kernel itself to `output`; notes kernel_version for the steps that follow."""

    def take_kernel(context: Context) -> None:
        if kernel.source == "package":
            version, vmlinuz = find_newest_kernel(root, kernel.version)
            place = f"/{vmlinuz.relative_to(root)}"
        else:
            version, vmlinuz, _ = locate_kernel(kernel, recipes)
            place = str(vmlinuz)
        modules = resolve_in_root(root, f"/lib/modules/{version}")
        if not modules.is_dir():
            raise BuildError(f"kernel {version} has no modules in the image", place=f"/lib/modules/{version}",
                             next_step="give kernel.modules, or install the package that brings them")  # fmt: skip
        if problem := find_format_problem(vmlinuz, place):
            raise problem
        copy_sparse(vmlinuz, partial_path(output))
        context.values["kernel_version"] = version

    return Do(f"take the kernel ({kernel.source})", take_kernel, writes=(partial_path(output),))


def find_newest_kernel(root: Path, wanted: str | None) -> tuple[str, Path]:
    """(version, path) of the kernel in the image's /boot: the wanted one, or the newest."""
    boot = resolve_in_root(root, "/boot")
    found = {}
    for prefix in IMAGE_NAMES:
        for path in boot.glob(prefix + "*"):
            target = resolve_in_root(root, f"/boot/{path.name}")
            if target.is_file():
                found[path.name.removeprefix(prefix)] = target
    if wanted and wanted not in found:
        there = ", ".join(sorted(found)) or "none"
        raise BuildError(f"no kernel {wanted} in the image, there is: {there}", place="/boot",
                         next_step="change kernel.version, or install that kernel's package")  # fmt: skip
    if not found:
        raise BuildError("the packages brought no kernel", place="/boot",
                         next_step="add a kernel package to packages.install, or change kernel.source")  # fmt: skip
    version = wanted or max(found, key=split_version)
    return version, found[version]


def split_version(version: str) -> list[tuple[int, str]]:
    """A sort key under which 6.1.0-10 comes after 6.1.0-9."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", version)
    return [(int(number), "") if number else (-1, text) for number, text in parts]
