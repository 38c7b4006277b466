"""The guest's rpm database: where the guest's own rpm looks for it, readable by it, without traces of ours."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from xenkiln.errors import BuildError, CommandError
from xenkiln.installers.rpm_metadata import Identity, join_version
from xenkiln.system.execution import Context
from xenkiln.system.files import remove_path, resolve_in_root
from xenkiln.system.mounts import bind_folder, enter_namespace

HOST_DBPATH = "/var/lib/rpm"
"""Where this host's rpm is told to write; upstream's default, and that of every release before Fedora 36."""

MACROS = f"""\
# Debian's rpm would keep its database in the home folder of whoever calls it.
%_dbpath {HOST_DBPATH}
# Mounted while packages are installed: rpm leaves them as they are.
%_netsharedpath /proc:/sys
# This host's plugins (syslog, audit, SELinux) have no business in a guest.
%__plugindir /nonexistent
"""
"""~/.rpmmacros of the package manager's own home: rpm(8) reads it last, so that it outweighs the host's."""

_SETTINGS, _RC_FILE = Path("/etc/rpm"), Path("/etc/rpmrc")

_QUERY = ("-qa", "--qf", "%{NAME} %{EPOCH} %{VERSION} %{RELEASE} %{ARCH}\\n")
_LEFTOVERS = ("__db.*", "*-shm", "*-wal", ".rpm.lock", ".dbenv.lock")
_PACKAGES = "/mnt"
"""Every Filesystem Hierarchy has it, and no package puts anything into it."""


def has_own_rpm(root: Path) -> bool:
    """Whether the guest brings an rpm of its own."""
    return any(resolve_in_root(root, path).is_file() for path in ("/usr/bin/rpm", "/bin/rpm"))


def hide_settings(context: Context) -> None:
    """Let this process and its children see nothing that this host's administrator has set for rpm.

    rpm has the names of its files built in; one %_excludedocs in /etc/rpm would change every image. The
    mounts are in our own namespace and end with it.
    """
    enter_namespace()
    if _SETTINGS.is_dir() and any(_SETTINGS.iterdir()):
        context.run(["mount", "-t", "tmpfs", "-o", "ro,mode=0755", "tmpfs", _SETTINGS])
    if _RC_FILE.is_file():
        context.run(["mount", "--bind", "/dev/null", _RC_FILE])


def read_identities(root: Path, context: Context) -> list[Identity]:
    """Every installed package, sorted, by the guest's own rpm where it has one, else by the host's."""
    if not has_own_rpm(root):
        text = context.read(["rpm", "--root", root, "--dbpath", HOST_DBPATH, *_QUERY])
    else:
        text = _ask_guest(root, context, *_QUERY)
    tidy_database(_database_folder(root, context))
    return parse_identities(text)


def parse_identities(text: str) -> list[Identity]:
    """The answer of rpm -qa. Imported keys are listed as packages named gpg-pubkey; they are none."""
    found = []
    for line in text.splitlines():
        name, epoch, version, release, arch = line.split(" ")
        if name != "gpg-pubkey":
            found.append((name, join_version(epoch, version, release), arch))
    return sorted(found)


def adopt_database(root: Path, repository: Path, context: Context) -> None:
    """Make the database that this host's rpm wrote the guest's own: as it is, moved, or written anew.

    Moving keeps the pinned install times. Only a guest whose rpm cannot read the format gets a new one,
    written by itself from the same package files; that works with any age of rpm, which exporting does not.
    """
    if has_own_rpm(root):
        wanted = parse_identities(context.read(["rpm", "--root", root, "--dbpath", HOST_DBPATH, *_QUERY]))
        if _read_or_none(root, context) != wanted:
            host, guest = resolve_in_root(root, HOST_DBPATH), _database_folder(root, context)
            if host != guest:
                _move_database(host, guest)
            if host == guest or _read_or_none(root, context) != wanted:
                _write_anew(root, guest, sorted(repository.glob("*.rpm")), context)
            if _read_or_none(root, context) != wanted:
                raise BuildError("the guest's own rpm does not list what was installed", place=f"{guest}",
                                 next_step="read the log for what its rpm says")  # fmt: skip
    tidy_database(_database_folder(root, context))


def tidy_database(folder: Path) -> None:
    """One plain file again: what sqlite and Berkeley DB keep beside it differs from run to run."""
    # A link that a package put there would have us write, as root, to what it names on this host; and
    # a journal can name any file to be removed. A database that was closed has neither.
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_symlink() or path.name.endswith("-journal"):
            remove_path(path)
    for path in sorted(folder.glob("*.sqlite")):
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            database.execute("PRAGMA journal_mode=DELETE")
    for pattern in _LEFTOVERS:
        for path in sorted(folder.glob(pattern)):
            remove_path(path)


def _database_folder(root: Path, context: Context) -> Path:
    """Where the guest's rpm keeps its database, on the host."""
    if not has_own_rpm(root):
        return resolve_in_root(root, HOST_DBPATH)
    return resolve_in_root(root, _ask_guest(root, context, "-E", "%_dbpath").strip())


def _ask_guest(root: Path, context: Context, *words: str) -> str:
    """The answer of the guest's own rpm."""
    resolve_in_root(root, "/proc").mkdir(exist_ok=True)
    return context.read(["rpm", *words], root=root)


def _read_or_none(root: Path, context: Context) -> list[Identity] | None:
    try:
        return parse_identities(_ask_guest(root, context, *_QUERY))
    except CommandError as error:
        context.runner.note(f"# the guest's rpm cannot read the database: {error.fact}")
        return None


def _move_database(host: Path, guest: Path) -> None:
    tidy_database(host)
    _empty_folder(guest)
    for path in sorted(host.iterdir()):
        shutil.move(path, guest / path.name)
    host.rmdir()


def _empty_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        if path.is_file() or path.is_symlink():
            path.unlink()


def _write_anew(root: Path, folder: Path, packages: Sequence[Path], context: Context) -> None:
    """Have the guest's rpm record the same files as installed; nothing is unpacked and no script runs."""
    context.tell("the guest's rpm writes its own database")
    _empty_folder(folder)
    place = resolve_in_root(root, _PACKAGES)
    made = not place.exists()
    with bind_folder(context.runner, packages[0].parent, place):
        names = [f"{_PACKAGES}/{path.name}" for path in packages]
        _ask_guest(root, context, "-i", "--justdb", "--nodeps", "--noscripts", "--notriggers", "--nosignature",
                   "--ignorearch", "--ignoresize", "--replacefiles", *names)  # fmt: skip
    if made:
        place.rmdir()
