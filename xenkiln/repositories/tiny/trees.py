"""From unpacked source packages to the files of each rpm, one tree per rpm."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.repositories.tiny.modules import copy_modules
from xenkiln.system.execution import Context
from xenkiln.system.layout import PROJECT
from xenkiln.system.steps import Argument
from xenkiln.system.templates import TEMPLATES, render_template

LOADER = "ld-linux-x86-64.so.2"
LIBRARIES = "lib/x86_64-linux-gnu"

FOLDERS = {
    "bin": 0o755, "boot": 0o755, "dev": 0o755, "etc": 0o755, "etc/dropbear": 0o700, "etc/init.d": 0o755,
    "etc/network": 0o755, "etc/network/if-down.d": 0o755, "etc/network/if-post-down.d": 0o755,
    "etc/network/if-pre-up.d": 0o755, "etc/network/if-up.d": 0o755, "home": 0o755, "lib": 0o755,
    "lib/modules": 0o755, LIBRARIES: 0o755, "lib64": 0o755, "media": 0o755, "mnt": 0o755, "opt": 0o755,
    "proc": 0o555, "root": 0o700, "run": 0o755, "sbin": 0o755, "srv": 0o755, "sys": 0o555, "tmp": 0o1777,
    "usr": 0o755, "usr/bin": 0o755, "usr/lib": 0o755, "usr/sbin": 0o755, "usr/share": 0o755,
    "usr/share/doc": 0o755, "usr/share/udhcpc": 0o755, "var": 0o755, "var/empty": 0o755, "var/lib": 0o755,
    "var/log": 0o755, "var/spool": 0o755, "var/tmp": 0o1777,
}  # fmt: skip
"""Those of the Filesystem Hierarchy Standard and of ifupdown, and the mode of each; tiny-release owns them."""

SCRIPTS = {"etc/init.d/rcS": "start", "etc/init.d/rcK": "stop", "etc/init.d/sshd": "sshd",
           "usr/share/udhcpc/default.script": "udhcpc"}  # fmt: skip
"""Path in the guest -> file of scripts/guest/tiny."""

LINKS = {"var/run": "../run", "var/lock": "../run", "etc/mtab": "../proc/mounts"}
SSH_PROGRAMS = ("usr/sbin/dropbear", "usr/bin/dropbearkey")
GUEST_SCRIPTS = PROJECT / "scripts" / "guest"
SECRET = ("etc/shadow",)


def fill_release(tree: Path) -> None:
    """The folders, accounts and init scripts that make a busybox a system."""
    for name, mode in FOLDERS.items():
        (tree / name).mkdir(parents=True, exist_ok=True)
        (tree / name).chmod(mode)
    for source in sorted((TEMPLATES / "tiny" / "root").rglob("*")):
        if source.is_file():
            name = str(source.relative_to(TEMPLATES / "tiny" / "root"))
            _put(source.read_bytes(), tree / name, 0o600 if name in SECRET else 0o644)
    _put(render_template("tiny/inittab.j2", {"console": "hvc0"}).encode(), tree / "etc/inittab", 0o644)
    for name, script in SCRIPTS.items():
        _put((GUEST_SCRIPTS / "tiny" / script).read_bytes(), tree / name, 0o755)
    for name, target in LINKS.items():
        (tree / name).symlink_to(target)


def fill_metadata_client(tree: Path) -> None:
    """The meta-data client, the same one that every guest uses."""
    _put((GUEST_SCRIPTS / "meta-data").read_bytes(), tree / "usr/sbin/meta-data", 0o755)


def fill_kernel(sources: Sequence[Path], tree: Path, context: Context) -> None:
    """The kernel in /boot and the modules that a Xen guest needs, with depmod's index of them."""
    kernels = [path for source in sources for path in source.glob("boot/vmlinuz-*")]
    modules = [path.parent for source in sources for path in source.rglob("modules.builtin")]
    if len(kernels) != 1 or not modules:
        raise BuildError(f"{len(kernels)} kernels and {len(modules)} folders of modules in it, one of each expected",
                         place=" and ".join(source.name for source in sources))  # fmt: skip
    version = kernels[0].name.removeprefix("vmlinuz-")
    _put(kernels[0].read_bytes(), tree / "boot" / kernels[0].name, 0o644)
    copy_modules(modules[0], tree / "lib/modules" / version, context)
    context.run(["depmod", "-b", tree, version])


LEFT_OUT = ("busybox", "dpkg", "dpkg-deb", "rpm", "rpm2cpio")
"""Applets without a link: busybox's package managers cannot read the database that installed this guest."""


def fill_busybox(source: Path, tree: Path, context: Context) -> None:
    """Busybox, a link for each of its applets, and the shell's entry in /etc/shells is made on installation."""
    program = find_file(source, "bin/busybox")
    _put(program.read_bytes(), tree / "bin/busybox", 0o755)
    for name in context.read([program, "--list-full"]).split():
        link = tree / name
        if link.name not in LEFT_OUT and re.fullmatch(r"(usr/)?s?bin/[A-Za-z0-9_.\[-]+", name):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to("/bin/busybox")


def fill_ssh_server(programs: Sequence[Path], tree: Path) -> None:
    """The ssh server and its key generator."""
    for name, program in zip(SSH_PROGRAMS, programs, strict=True):
        _put(program.read_bytes(), tree / name, 0o755)


def find_libraries(sources: Path, programs: Sequence[Path], context: Context) -> dict[str, list[Path]]:
    """Source package -> the shared libraries in it that `programs` load, as their own loader finds them."""
    folders = sorted({path.parent for path in sources.glob(f"*/**/{LIBRARIES}/lib*.so.*")})
    loader = next((path for path in sources.glob(f"*/**/{LIBRARIES}/{LOADER}")), None)
    if loader is None:
        raise BuildError("the C library's package has no dynamic loader", place=LOADER)
    # What this host preloads into every program is no part of the guest.
    ask: list[Argument] = ["env", "-u", "LD_PRELOAD", loader, "--library-path", ":".join(map(str, folders)), "--list"]
    output = "".join(context.read([*ask, program]) for program in programs)
    if lost := sorted(set(re.findall(r"^\s*(\S+) => not found", output, re.MULTILINE))):
        raise BuildError(f"no source package has {', '.join(lost)}", place=programs[0].name)
    found: dict[str, list[Path]] = {}
    for path in sorted({loader, *map(Path, re.findall(r" => (/.*) \(0x", output))}):
        if sources in path.parents:
            found.setdefault(path.relative_to(sources).parts[0], []).append(path)
    return found


def fill_libraries(libraries: Sequence[Path], tree: Path) -> None:
    """Libraries under the names that programs ask for; the loader also where the kernel looks for it."""
    for path in libraries:
        _put(path.read_bytes(), tree / LIBRARIES / path.name, 0o755)
        if path.name == LOADER:
            (tree / "lib64").mkdir(exist_ok=True)
            (tree / "lib64" / LOADER).symlink_to(f"/{LIBRARIES}/{LOADER}")


def fill_copyright(source: Path, tree: Path, name: str) -> None:
    """The terms under which the files of a source package may be passed on."""
    text = source / "usr/share/doc" / source.name / "copyright"
    if text.is_file():
        _put(text.read_bytes(), tree / "usr/share/doc" / name / "copyright", 0o644)


def find_file(source: Path, name: str) -> Path:
    """A file of a source package, which may or may not have merged /bin into /usr/bin."""
    for path in (source / name, source / "usr" / name):
        if path.is_file():
            return path
    raise BuildError(f"has no {name}", place=source.name)


def _put(data: bytes, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    target.chmod(mode)
