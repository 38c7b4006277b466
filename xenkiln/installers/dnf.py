"""dnf, or yum where a host has only that: CentOS, Rocky Linux and other rpm distributions.

The package manager of this host says which packages are meant; they are fetched and checked here, the same
way with and without a lock; it then installs from a local repository of exactly those packages.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

from xenkiln.errors import XenkilnError
from xenkiln.installers.cache import link_files
from xenkiln.installers.contract import Selection
from xenkiln.installers.rpm_database import HOST_DBPATH, MACROS, adopt_database, hide_settings, read_identities
from xenkiln.installers.rpm_fetching import fetch_packages
from xenkiln.installers.rpm_resolving import resolve_packages
from xenkiln.installers.traces import remove_in_root
from xenkiln.installers.yum_commands import Source, choose_tool, make_command, name_package, render_conf
from xenkiln.model.packages import Package, PackagePlan
from xenkiln.system.execution import Context
from xenkiln.system.files import resolve_in_root, write_finished
from xenkiln.system.layout import Paths
from xenkiln.system.steps import Do, Mount, Run, Step, Write

__all__ = ["RESOLVE_TOOLS", "fetch_packages", "find_problems", "make_bootstrap_steps", "make_repository",
           "read_installed", "resolve_packages"]  # fmt: skip

RESOLVE_TOOLS = (choose_tool(), "rpm", "rpmkeys", "createrepo_c", "setarch", "zstd")

WHOLE_PLAN = "plan"
"""The group that is installed for a recipe that names none."""

_PROGRESS = re.compile(r"Installing\s*:\s+(\S+)\s+(\d+/\d+)")
_FAULT = re.compile(r"(?:scriptlet failed|Error in \S+ scriptlet|Non-fatal \S+ scriptlet failure).*")

_TRACES = ("/var/cache/yum/*", "/var/log/dnf*", "/var/log/hawkey.log", "/var/log/yum.log", "/var/lib/dnf/*",
           "/var/lib/yum/history/*")  # fmt: skip

_COMPS_GROUP = """\
  <group>
    <id>{name}</id>
    <name>{name}</name>
    <default>true</default>
    <uservisible>true</uservisible>
    <packagelist>
{members}
    </packagelist>
  </group>
"""


def find_problems(selection: Selection, paths: Paths) -> list[XenkilnError]:
    """None: a recipe's gpgkeys are looked for with its other files."""
    return []


def make_repository(
    selection: Selection, plan: PackagePlan, files: list[Path], folder: Path, context: Context
) -> None:
    """A yum repository in which every group of the recipe is the whole plan.

    So the real `groupinstall` installs what was planned, whatever the distribution's own group says.
    """
    link_files(files, folder, [name_file(package) for package in plan.packages])
    names = sorted({package.name for package in plan.packages})
    members = "\n".join(f'      <packagereq type="mandatory">{escape(name)}</packagereq>' for name in names)
    groups = "".join(_COMPS_GROUP.format(name=escape(group), members=members) for group in _list_groups(selection))
    comps = f'<?xml version="1.0" encoding="UTF-8"?>\n<comps>\n{groups}</comps>\n'
    write_finished(folder / "comps.xml", comps)
    context.run(["createrepo_c", "--quiet", "--no-database", "--simple-md-filenames", "--revision", str(plan.epoch),
                 "--set-timestamp-to-revision", "--groupfile", "comps.xml", folder])  # fmt: skip


def name_file(package: Package) -> str:
    """The file name that rpm gives a package: without its epoch."""
    return f"{package.name}-{package.version.rpartition(':')[2]}.{package.arch}.rpm"


def make_bootstrap_steps(selection: Selection, repository: Path, root: Path) -> list[Step]:
    """The groups, then the packages; then the database where the guest's own rpm looks for it.

    Signatures were checked when the files were fetched: done here, it would put the keys into the guest's
    database, as packages that nobody planned.
    """
    home = repository.with_name("installer")
    conf = home / "yum-xen.conf"
    source = Source("planned", "The planned packages", (repository.as_uri(),), whole=True)
    planned = replace(selection, packages=selection.packages.model_copy(update={"exclude": ()}))

    def install(why: str, *words: str) -> Run:
        argv = make_command(selection, conf, root, ("-y", *words))
        return Run(why, argv, env=(("HOME", str(home)), ("TMPDIR", "/tmp")), progress=read_progress)  # noqa: S108

    steps: list[Step] = [
        Write(home / ".rpmmacros", MACROS),
        Write(conf, render_conf(planned, [source], gpgcheck=False)),
        Mount("guest", root),
        Do("hide what this host has set for rpm", hide_settings, ("mount",)),
        Do("make /var/lock/rpm", partial(_make_lock_folder, root, repository), ("rpm",)),
        install("install the groups", "groupinstall", *_list_groups(selection)),
    ]
    if names := [name_package(word) for word in selection.packages.install]:
        steps.append(install("install the packages", "install", *names))
    return [
        *steps,
        Do("remove what this host's package manager left", partial(_remove_traces, root), (choose_tool(), "rpm")),
        Do("put the rpm database where the guest looks for it",
           lambda context: adopt_database(root, repository, context), ("rpm", "mount", "umount")),
    ]  # fmt: skip


def read_installed(selection: Selection, root: Path, context: Context) -> list[tuple[str, str, str]]:
    """What the guest's own rpm lists; without one, what this host's finds in the guest's database."""
    return read_identities(root, context)


def read_progress(line: str) -> str | None:
    """How far an installation is, and what went wrong without ending it."""
    if found := _PROGRESS.search(line):
        return f"{found[2]} {found[1]}"
    return line.strip() if _FAULT.search(line) else None


def _list_groups(selection: Selection) -> tuple[str, ...]:
    return selection.packages.groups or (WHOLE_PLAN,)


def _make_lock_folder(root: Path, repository: Path, context: Context) -> None:
    """Old rpm locks in /var/lock/rpm and does not make it. Where /var/lock is a link, it has no use for it."""
    files = context.read(["rpm", "-qp", "--nosignature", "--qf", "[%{FILEMODES:perms} %{FILENAMES}\\n]",
                          *sorted(repository.glob("*.rpm"))])  # fmt: skip
    if not re.search(r"^l\S+ /var/lock$", files, re.MULTILINE):
        resolve_in_root(root, "/var/lock/rpm").mkdir(parents=True, exist_ok=True)


def _remove_traces(root: Path, context: Context) -> None:
    """Cache, logs and history of this host's dnf; its folders too, where the guest has no dnf of its own."""
    remove_in_root(root, _TRACES)
    owned = set(context.read(["rpm", "--root", root, "--dbpath", HOST_DBPATH, "-qal"]).splitlines())
    for name in ("/var/cache/yum", "/var/lib/dnf", "/etc/dnf/modules.d", "/etc/dnf"):
        folder = resolve_in_root(root, name)
        if name not in owned and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
