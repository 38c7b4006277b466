"""Which packages a selection means today: dnf or yum decides in an empty root, its indexes say the rest."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path

from xenkiln.errors import BuildError, CommandError
from xenkiln.installers import downloads, rpm_metadata
from xenkiln.installers.contract import Selection
from xenkiln.installers.rpm_database import MACROS
from xenkiln.installers.rpm_fetching import check_keys_given, make_packages
from xenkiln.installers.rpm_metadata import Entry, Identity
from xenkiln.installers.yum_commands import choose_tool, list_sources, make_command, name_package, render_conf
from xenkiln.model.packages import PackagePlan
from xenkiln.system.causes import find_cause
from xenkiln.system.commands import LAST_LINES, describe_ending
from xenkiln.system.execution import Context
from xenkiln.system.files import remove_path, write_finished

_CHOSEN = re.compile(r"---> Package (\S+)\.(\S+) (\S+) (?:will be installed|set to be (?:updated|installed))")
_DECLINED = re.compile(r"Operation aborted|Exiting on user [Cc]ommand")
_UNKNOWN = re.compile(r"Module or Group '(.+)' is not available|Group (.+) does not exist"
                      r"|No match for argument: (.+)|No package (.+) available")  # fmt: skip
_NETWORK = re.compile(r"Curl error|Status code: (?:5\d\d|429)|Connection|[Tt]imed? ?out|Could not resolve")
_EMPTY = re.compile(r"Nothing to do")


def resolve_packages(selection: Selection, context: Context) -> PackagePlan:
    """What the repositories have today for groups and packages, with everything they depend on.

    One transaction in an empty throw-away root, so that no two parts of the answer contradict.
    """
    folder = context.paths.work / "resolve"
    remove_path(folder)
    check_keys_given(selection)
    _check_made_here(selection, context)
    sources = list_sources(selection, context.paths)
    text = render_conf(selection, sources, gpgcheck=selection.packages.signatures == "required")
    write_finished(folder / "yum-xen.conf", text)
    write_finished(folder / ".rpmmacros", MACROS)
    try:
        chosen = _choose_packages(selection, folder, context)
        cache = folder / "root" / "var" / "cache" / "yum"
        indexes = {source.name: rpm_metadata.find_index(cache, source.name) for source in sources if source.enabled}
        packages = make_packages(selection, _find_entries(chosen, indexes, context), context)
        epoch = max((rpm_metadata.read_date(index) for index in indexes.values()), default=0)
    finally:
        remove_path(folder)
    return PackagePlan(epoch, tuple(sorted(packages)))


def _check_made_here(selection: Selection, context: Context) -> None:
    for repository in selection.packages.repositories:
        if repository.made_here and not (context.paths.repository(repository.name) / "repodata").is_dir():
            raise BuildError(
                f"repository {repository.name} has not been made yet", place=context.paths.name,
                next_step=f"doit repository:{context.paths.name}")  # fmt: skip


def _choose_packages(selection: Selection, home: Path, context: Context) -> set[Identity]:
    """Ask the package manager (dnf 4, or yum from 3.2.20 on) what it would install, and say no."""
    words = ["-d", "3", *(["--assumeno"] if choose_tool() == "dnf" else []), "install"]
    words += [f"@{group}" for group in selection.packages.groups]
    words += [name_package(word) for word in selection.packages.install]
    argv = make_command(selection, home / "yum-xen.conf", home / "root", words)
    for wait in (*downloads.BACKOFF_SECONDS, None):
        lines: list[str] = []
        # Old yum has no --assumeno: it is answered.
        code = context.run(argv, env={"HOME": str(home)}, input_text="n\n", on_line=lines.append, accept=(0, 1))
        output = "\n".join(lines)
        if unknown := _UNKNOWN.findall(output):
            names = sorted({name for found in unknown for name in found if name})
            raise BuildError(
                f"the repositories have no {', '.join(names)}", place=f"{context.paths.name}: packages",
                next_step="check the names under groups and install, and the repositories")  # fmt: skip
        if _DECLINED.search(output) or (code == 0 and _EMPTY.search(output)):
            return {(name, version.removeprefix("0:"), arch) for name, arch, version in _CHOSEN.findall(output)}
        if wait is None or not _NETWORK.search(output):
            break
        context.tell("the mirrors cannot be reached; trying again")
        time.sleep(wait)
    raise CommandError(" ".join(map(str, argv)), describe_ending(code), last_lines=lines[-LAST_LINES:],
                       log=str(context.runner.log or ""), next_step=find_cause(output, code))  # fmt: skip


def _find_entries(chosen: set[Identity], indexes: Mapping[str, Path], context: Context) -> dict[Entry, str]:
    """The index entry of each chosen package and its repository; of two alike the earlier repository's."""
    found: dict[Identity, tuple[Entry, str]] = {}
    for name, index in indexes.items():
        for entry in rpm_metadata.read_entries(index, context.runner):
            if entry.identity in chosen:
                found.setdefault(entry.identity, (entry, name))
    if lost := sorted(" ".join(identity) for identity in chosen - found.keys()):
        raise BuildError(f"chosen, but in no index: {', '.join(lost)}", place=context.paths.name)
    return dict(found.values())
