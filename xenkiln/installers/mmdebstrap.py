"""mmdebstrap and apt: Debian and Ubuntu.

apt of this host resolves and fetches with a state of its own below the build folder; mmdebstrap then
installs from a local repository that holds exactly the planned packages.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from xenkiln.errors import HostError, XenkilnError
from xenkiln.installers import apt
from xenkiln.installers.cache import cache_file, place_file
from xenkiln.installers.contract import Selection
from xenkiln.installers.debs import damaged_error, unpack_files
from xenkiln.installers.traces import remove_empty_folders, remove_in_root
from xenkiln.model.packages import PackagePlan
from xenkiln.system.execution import Context
from xenkiln.system.files import resolve_in_root, write_finished
from xenkiln.system.layout import Paths
from xenkiln.system.processes import PROPAGATION
from xenkiln.system.steps import Do, Run, Step

RESOLVE_TOOLS = ("apt-get", "apt-cache", apt.APT_HELPER, "apt-ftparchive")
ONLY_SHA256 = [word for name in ("MD5", "SHA1", "SHA512") for word in ("-o", f"APT::FTPArchive::{name}=false")]
STRANGE = r"[^\w/.+~@:=-]"
NO_SUITE = ""
"""With a suite mmdebstrap takes only packages whose Release names it; our repository has no Release."""
EMPTY_HOST_KEYS = (
    'chroot "$1" sh -c "mkdir -p /etc/ssh && cd /etc/ssh'
    ' && touch ssh_host_rsa_key ssh_host_ecdsa_key ssh_host_ed25519_key"'
)
"""An image carries no host keys, so none are made only to be removed: sshd's package makes those that are missing.

By the guest's own programs: a package may have made /etc/ssh a link.
"""
HOOKS = "/usr/share/mmdebstrap/hooks/file-mirror-automount"

ESSENTIAL = {"essential": ("?essential",), "apt": ("?essential", "apt"),
             "minbase": ("?essential", "?priority(required)", "apt"),
             "important": ("?essential", "?priority(required)", "?priority(important)", "apt")}  # fmt: skip
"""What a variant of mmdebstrap(1) means, as apt patterns; apt itself is named, releases differ about it."""


def find_problems(selection: Selection, paths: Paths) -> list[XenkilnError]:
    """A keyring that is not there; with a lock none is needed, its checksums stand for the signatures.

    And a folder whose name a line of sources.list(5) cannot hold, or only in a form (%20) that mmdebstrap's
    hook does not read.
    """
    problems: list[XenkilnError] = []
    try:
        if not paths.lock.exists():
            apt.find_keyring(selection, paths)
    except XenkilnError as error:
        problems.append(error)
    folders = [(paths.build, "XENKILN_BUILD")]
    folders += [(paths.recipes, "XENKILN_RECIPES")] if selection.packages.keyring else []
    for folder, variable in folders:
        if strange := sorted({*re.findall(STRANGE, str(folder))}):
            problems.append(HostError(
                f"the folder's name holds {' '.join(map(repr, strange))}, which apt's list of sources cannot",
                place=str(folder), next_step=f"put it elsewhere: {variable}=/another/folder"))  # fmt: skip
    return problems


def resolve_packages(selection: Selection, context: Context) -> PackagePlan:
    """What the mirrors have today for variant and packages, with everything they depend on."""
    apt.prepare_state(selection, context)
    apt.update_lists(selection, context)
    wanted = [*ESSENTIAL[selection.packages.variant], *selection.packages.install]
    wanted += [f"{name}-" for name in selection.packages.exclude]
    planned = apt.simulate_install(selection, wanted, context)
    apt.remove_cache(context)
    return PackagePlan(apt.read_epoch(context), planned)


def fetch_packages(selection: Selection, plan: PackagePlan, context: Context) -> list[Path]:
    """Each .deb from the cache or a mirror, checked against the plan's SHA-256."""
    apt.prepare_state(selection, context)
    missing = [package for package in plan.packages if not cache_file(context.paths.cache, package).is_file()]
    if missing:
        apt.fetch_files(selection, missing, context)
    return [cache_file(context.paths.cache, package) for package in plan.packages]


def make_repository(
    selection: Selection, plan: PackagePlan, files: list[Path], folder: Path, context: Context
) -> None:
    """A flat repository: the packages, unpacked ahead of dpkg, and a Packages index."""
    names = [f"{package.name}_{package.version.replace(':', '%3a')}_{package.arch}.deb" for package in plan.packages]
    context.tell("unpack the packages")
    digests = [package.sha256 for package in plan.packages]
    damaged = unpack_files(files, [place_file(folder, name) for name in names], digests)
    for path in damaged:
        path.unlink()
    if damaged:
        known = dict(zip(files, plan.packages, strict=True))
        raise damaged_error([known[path].full_name for path in damaged], context.paths.cache)
    index = context.runner.read(["apt-ftparchive", *ONLY_SHA256, "packages", str(folder)])
    text = index.replace(f"Filename: {folder}/", "Filename: ./")
    write_finished(folder / "Packages", text)


def make_bootstrap_steps(selection: Selection, repository: Path, root: Path) -> list[Step]:
    """One mmdebstrap, without the ramdisk that a kernel package would make: ours is made later, once."""
    packages = selection.packages
    included = [name for name in ESSENTIAL[packages.variant] if not name.startswith("?")] + list(packages.install)
    options = [
        "--mode=root", f"--variant={packages.variant}", f"--architectures={apt.architecture(selection.arch)}",
        f"--include={','.join(included)}" if included else "",
        # The journal of the loop-mounted image is not waited for: a killed build starts over anyway.
        "--dpkgopt=force-unsafe-io", "--dpkgopt=force-confold",
        f'--aptopt=APT::Install-Recommends "{str(packages.weak_dependencies).lower()}"',
        # mmdebstrap would ask another program whether this host can run i386; what it runs says so itself.
        *(["--skip=check/qemu"] if selection.arch == "i386" else []),
        f"--hook-dir={HOOKS}", f"--essential-hook={EMPTY_HOST_KEYS}", "--verbose",
    ]  # fmt: skip
    # Signatures and checksums of what lies in this folder were checked when it was fetched.
    source = f"deb [trusted=yes] file://{repository} ./"

    def remove_traces(context: Context) -> None:
        # The folders that mmdebstrap's hook made to show the repository inside the root.
        remove_empty_folders(root, repository)
        remove_in_root(root, ("/etc/apt/apt.conf.d/99mmdebstrap", "/etc/dpkg/dpkg.cfg.d/99mmdebstrap"))
        for name in ("/var/cache/apt/archives/partial", "/var/lib/apt/lists/partial"):
            folder = resolve_in_root(root, name)
            # apt gives them to its own user only where that user could reach the repository.
            if folder.is_dir():
                os.chown(folder, 0, 0)

    return [
        Do("empty the root", lambda context: remove_in_root(root, ["/lost+found"]),
           ("mmdebstrap", f"{HOOKS}/setup00.sh")),
        Run("install the packages with mmdebstrap",
            ("unshare", "--mount", *PROPAGATION, "--pid", "--fork", "--kill-child",
             "mmdebstrap", *filter(None, options), NO_SUITE, root, source),
            env=(("INITRD", "No"), ("DEBIAN_FRONTEND", "noninteractive"), ("TMPDIR", str(root.parent))),
            progress=ProgressReader(repository / "Packages")),
        Do("remove what the installer left", remove_traces),
    ]  # fmt: skip


class ProgressReader:
    """From mmdebstrap's output: what it is at, and how many of the index's packages are set up."""

    def __init__(self, index: Path) -> None:
        self.index = index
        self.total = 0
        self.done = 0

    def __call__(self, line: str) -> str | None:
        """What to tell the user about a line, None for nothing."""
        if line.startswith("I: "):
            return line[3:].rstrip(".")
        match = re.match(r"(Unpacking|Setting up) ([^ ]+)", line)
        if not match:
            return None
        self.total = self.total or self.index.read_text(encoding="utf-8").count("\nSHA256: ")
        self.done += match[1] == "Setting up"
        return f"{self.done} of {self.total} packages, {match[1].lower()} {match[2]}"


def read_installed(selection: Selection, root: Path, context: Context) -> list[tuple[str, str, str]]:
    """What the target's own dpkg-query lists as installed."""
    form = "${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\n"
    output = context.read(["dpkg-query", "-W", "-f", form], root=root)
    rows = [line.split("\t") for line in output.splitlines()]
    return sorted((name, version, arch) for status, name, version, arch in rows if status.startswith("ii"))


