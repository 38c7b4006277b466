"""How dnf and yum are told what to do: their configuration file and their command lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xenkiln.installers.contract import Selection
from xenkiln.model.image import Repository
from xenkiln.system.layout import Paths
from xenkiln.system.steps import Argument
from xenkiln.system.templates import render_template
from xenkiln.system.tools import find_tool

_FIRST_MODULAR = 8  # modules came with Enterprise Linux 8


@dataclass(frozen=True)
class Source:
    """A repository section of the configuration. whole: every package of it counts, modular or not."""

    name: str
    title: str
    baseurls: tuple[str, ...]
    enabled: int = 1
    gpgkeys: tuple[str, ...] = ()
    whole: bool = False


def choose_tool() -> str:
    """Dnf, or yum on a host that has that and no dnf."""
    return "dnf" if find_tool("dnf") or not find_tool("yum") else "yum"


def list_sources(selection: Selection, paths: Paths) -> list[Source]:
    """The recipe's repositories, with their addresses as they really are."""
    return [
        Source(
            repository.name,
            repository.title,
            list_baseurls(repository, selection, paths),
            int(repository.enabled),
            tuple((paths.recipes / key).as_uri() for key in repository.gpgkeys),
        )
        for repository in selection.packages.repositories
    ]


def list_baseurls(repository: Repository, selection: Selection, paths: Paths) -> tuple[str, ...]:
    """The addresses of a repository in the order they are tried; yum's variables are filled in."""
    if repository.made_here:
        return (paths.repository(repository.name).as_uri(),)
    known = {"releasever": selection.release, "basearch": selection.arch, "arch": _name_arch(selection)}
    return tuple(
        re.sub(r"\$\{?(releasever|basearch|arch)\b\}?", lambda match: known[match[1]], url)
        for url in repository.baseurls
    )


def render_conf(selection: Selection, sources: Sequence[Source], *, gpgcheck: bool) -> str:
    """yum-xen.conf for these repositories."""
    major = re.match(r"\d+", selection.release)
    modular = major is not None and int(major[0]) >= _FIRST_MODULAR
    return render_template("redhat/yum.conf.j2", {
        "gpgcheck": int(gpgcheck),
        "weak_dependencies": int(selection.packages.weak_dependencies),
        "platform": f"platform:el{major[0]}" if major and modular else "",
        "exclude": " ".join(map(name_package, selection.packages.exclude)),
        "repositories": sources,
    })  # fmt: skip


def make_command(selection: Selection, conf: Path, root: Path, words: Sequence[str]) -> tuple[Argument, ...]:
    """One run of the package manager.

    A guest of 32 bits sees a machine of 32 bits, its scripts too. Old yum knows neither --forcearch nor
    --releasever: it takes both from what it sees.
    """
    tool = choose_tool()
    prefix = ("setarch", "i386") if selection.arch == "i386" else ()
    known = (f"--forcearch={_name_arch(selection)}", f"--releasever={selection.release}") if tool == "dnf" else ()
    return (*prefix, tool, "-c", str(conf), f"--installroot={root}", *known, *words)


def name_package(word: str) -> str:
    """A package as yum writes it: NAME, or NAME-VERSION where the recipe has NAME=VERSION."""
    return word.replace("=", "-", 1)


def _name_arch(selection: Selection) -> str:
    """The machine that packages are chosen for: i386 releases carry i686 packages where it matters."""
    return "i686" if selection.arch == "i386" else selection.arch
