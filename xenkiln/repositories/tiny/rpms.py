"""From trees to rpms: one spec file, one run of rpmbuild, the same bytes wherever and whenever it runs."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.repositories.tiny.trees import FOLDERS
from xenkiln.system.execution import Context
from xenkiln.system.templates import render_template

LICENSES = (
    ("busybox", "GPL-2.0-only"),
    ("dropbear", "MIT"),
    ("libc6", "LGPL-2.1-or-later AND GPL-2.0-or-later"),
    ("libcrypt1", "LGPL-2.1-or-later"),
    ("libgcc-s1", "GPL-3.0-or-later WITH GCC-exception-3.1"),
    ("libgmp10", "LGPL-3.0-or-later OR GPL-2.0-or-later"),
    ("libtomcrypt1", "LicenseRef-public-domain OR WTFPL"),
    ("libtommath1", "Unlicense"),
    ("linux-", "GPL-2.0-only WITH Linux-syscall-note"),
    ("zlib1g", "Zlib"),
)
"""Start of a source package's name -> SPDX expression, from its own copyright file."""

UNKNOWN_LICENSE = "LicenseRef-see-copyright-file"

MACROS = {
    "_binary_payload": "w3.zstdio",
    "_buildhost": "localhost",
    "_build_id_links": "none",
    "_build_name_fmt": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
    "__os_install_post": "%{nil}",
    "clamp_mtime_to_source_date_epoch": "1",
    "debug_package": "%{nil}",
    "dist": "%{nil}",
    "optflags": "%{nil}",
    "packager": "%{nil}",
    "source_date_epoch_from_changelog": "0",
    "use_source_date_epoch_as_buildtime": "1",
    "vendor": "xenkiln",
}
"""rpm's own switches for output that does not depend on the host, and a packing that takes no time."""

HONEST_DATES = {"NO_FAKE_STAT": "1"}
"""faketime(1) also shifts the dates that files seem to have, which a machine with another clock does not."""


@dataclass(frozen=True)
class Rpm:
    """One package to build. `version` is as Debian writes it; `post` a shell command run after installation."""

    name: str
    version: str
    license: str
    summary: str
    requires: tuple[str, ...] = ()
    noarch: bool = False
    post: str = ""


def find_license(source: str) -> str:
    """The SPDX expression for a source package."""
    return next((terms for start, terms in LICENSES if source.startswith(start)), UNKNOWN_LICENSE)


def split_version(version: str) -> tuple[int, str, str]:
    """(epoch, version, release) as rpm takes them, of a version as deb-version(7) describes it."""
    epoch, rest = version.split(":", 1) if ":" in version else ("0", version)
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "0")
    # A '-' divides in rpm, so what is left of them becomes '_'.
    return int(epoch), upstream.replace("-", "_").replace(":", "_"), revision


def build_rpms(rpms: list[Rpm], trees: Path, work: Path, output: Path, epoch: int, context: Context) -> None:
    """Build every package from trees/NAME into `output`; all dates in it are `epoch` (seconds)."""
    entries = {rpm.name: list_entries(trees / rpm.name, owns_folders=rpm is rpms[0]) for rpm in rpms}
    for path in trees.rglob("*"):
        os.utime(path, (epoch, epoch), follow_symlinks=False)
    packages = [
        {"rpm": rpm, "parts": split_version(rpm.version), "entries": entries[rpm.name], "tree": trees / rpm.name}
        for rpm in rpms
    ]
    spec = work / "tiny.spec"
    spec.write_text(render_template("tiny/tiny.spec.j2", {"packages": packages}), encoding="utf-8")
    macros = {**MACROS, "_rpmdir": str(output), "_topdir": str(work / "rpmbuild"), "_dbpath": str(work / "rpmdb"),
              # rpm divides the path of its own script at blanks, and takes a relative one from /.
              "_tmppath": "/proc/self/cwd/rpmtmp"}  # fmt: skip
    words = [word for name, value in macros.items() for word in ("--define", f"{name} {value}")]
    context.tell(f"build {len(rpms)} rpms")
    # The first word that needs rpm's files has them read: which ones they are comes before all.
    context.run(["rpmbuild", *name_rpm_files(context), "-bb", "--target", "x86_64-linux", *words, spec],
                env={"SOURCE_DATE_EPOCH": str(epoch), **HONEST_DATES}, cwd=work)  # fmt: skip


def name_rpm_files(context: Context) -> list[str]:
    """Options with which rpm reads the files that it brings itself, and none of this host's or a user's.

    One %_binary_filedigest_algorithm in /etc/rpm would change every package. Locking makes them too, without
    being root: so nothing is mounted over those files.
    """
    ask = ("rpm", "--rcfile=/dev/null")
    found = re.search(r"^Macro path: (.+)$", context.read([*ask, "--showrc"]), re.MULTILINE)
    own = [name for name in found[1].split(":") if not name.startswith(("/etc/", "~"))] if found else []
    if not own:
        raise BuildError("it does not say where its macros are", place="rpm --showrc",
                         next_step="run it to see whether this host's rpm works")  # fmt: skip
    folder = context.read([*ask, "--eval", "%{_rpmconfigdir}"]).strip()
    return [f"--macros={':'.join(own)}", f"--rcfile={folder}/rpmrc"]


def list_entries(tree: Path, *, owns_folders: bool) -> list[str]:
    """The lines of %files for a tree: every path with its mode, shared folders only for their owner."""
    lines = []
    for path in sorted(tree.rglob("*")):
        name = str(path.relative_to(tree))
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_symlink():
            lines.append(f'"/{name}"')
        elif path.is_dir():
            if owns_folders or name not in FOLDERS:
                lines.append(f'%dir %attr({FOLDERS.get(name, 0o755):04o}, root, root) "/{name}"')
        else:
            config = "%config(noreplace) " if re.match("etc/(?!init.d/)", name) else ""
            lines.append(f'{config}%attr({mode:04o}, root, root) "/{name}"')
    return lines
