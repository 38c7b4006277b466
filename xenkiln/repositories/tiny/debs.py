"""Source packages by the host's own apt: its sources, proxies and keys, but a state of our own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xenkiln.errors import BuildError, CommandError
from xenkiln.system.execution import Context
from xenkiln.system.files import hash_file
from xenkiln.system.locks import hold_lock

KERNELS = ("linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64")
"""Packages that stand for the newest kernel: Debian's and Ubuntu's for virtual machines, Debian's for any."""

KERNEL_PARTS = re.compile(r"linux-(image|modules)-[0-9]")
PROGRAMS = ("busybox-static", "dropbear-bin")

CONF = """\
Dir::State::status "/dev/null";
Dir::Cache "{state}/cache/";
{lists}
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::ForceHash "SHA256";
Acquire::Languages "none";
Acquire::Retries "3";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
"""
"""apt.conf(5), read by -c after the host's own. An empty status: every dependency counts as missing.

The sandbox's user could not write below a checkout that only its owner can enter. The hooks of the
host (which clean its caches, or tell its desktop about updates) have no business here.
"""


@dataclass(frozen=True)
class Deb:
    """A source package as its index describes it; `file` is its name below the cache."""

    name: str
    version: str
    arch: str
    sha256: str
    file: str


def fetch_debs(cache: Path, context: Context) -> list[Path]:
    """Kernel, busybox, ssh server and its libraries as files whose checksums are those of the signed index.

    The host's own package lists are tried first, then lists that an earlier run fetched, then fresh ones: on a
    new machine there are none, and old ones name versions that the mirror no longer has. Raises the last
    attempt's error.
    """
    debs = cache / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    with hold_lock(cache / "debs.lock", "the cache of source packages", wait=True):
        for attempt in ("of this host", "of an earlier run", "fetched now"):
            try:
                context.tell(f"look for kernel, busybox and ssh server in the package lists {attempt}")
                return _fetch_by_lists(attempt, cache, debs, context)
            except CommandError as error:
                failure: CommandError = error
                context.runner.note(f"# nothing to be had by the package lists {attempt}: {error.fact}")
    raise failure


def _fetch_by_lists(attempt: str, cache: Path, debs: Path, context: Context) -> list[Path]:
    conf = _write_conf(cache / "apt", own_lists=attempt != "of this host")
    if attempt == "fetched now":
        context.runner.run(["apt-get", "-c", str(conf), "update"])
    wanted = [*_resolve(conf, PROGRAMS, context), *_find_kernel(conf, context)]
    missing = [deb for deb in wanted if not _is_intact(debs, deb)]
    if missing:
        context.tell(f"fetch {len(missing)} source packages")
        words = [f"{deb.name}:{deb.arch}={deb.version}" for deb in missing]
        context.runner.run(["apt-get", "-c", str(conf), "download", *words], cwd=debs)
    for deb in missing:
        if not _is_intact(debs, deb):
            raise BuildError("is not what the mirror's signed index describes", place=deb.file,
                             next_step="run this again; if it stays so, let apt use another mirror")  # fmt: skip
    return [debs / deb.file for deb in wanted]


def _write_conf(state: Path, *, own_lists: bool) -> Path:
    for folder in ("cache/archives/partial", "lists/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    lists = f'Dir::State::lists "{state}/lists/";' if own_lists else ""
    conf = state / "apt.conf"
    conf.write_text(CONF.format(state=state, lists=lists), encoding="utf-8")
    return conf


def _find_kernel(conf: Path, context: Context) -> list[Deb]:
    """The image (and, in Ubuntu, modules) that the newest kernel consists of."""
    for number, name in enumerate(KERNELS, start=1):
        try:
            debs = _resolve(conf, [name], context)
        except CommandError:
            if number == len(KERNELS):
                raise
            continue
        if parts := [deb for deb in debs if KERNEL_PARTS.match(deb.name)]:
            return parts
    raise BuildError(f"none of {', '.join(KERNELS)} leads to a kernel", next_step="enable a source that has one")


def _resolve(conf: Path, names: Sequence[str], context: Context) -> list[Deb]:
    """What apt would install into an empty system to have `names`, sorted."""
    return parse_uris(context.runner.read(["apt-get", "-c", str(conf), "-qq", "-y", "--print-uris", "install", *names]))


def parse_uris(text: str) -> list[Deb]:
    """The packages in what `apt-get --print-uris` prints: 'URI' FILE SIZE SHA256:HASH."""
    found = re.findall(r"^'[^']+' (([^_ ]+)_([^_ ]+)_([^_ ]+)\.deb) [0-9]+ SHA256:([0-9a-f]{64})$", text, re.MULTILINE)
    return sorted(
        (Deb(name, version.replace("%3a", ":"), arch, sha256, file) for file, name, version, arch, sha256 in found),
        key=lambda deb: deb.name,
    )


def _is_intact(folder: Path, deb: Deb) -> bool:
    path = folder / deb.file
    return path.is_file() and hash_file(path) == deb.sha256


def read_date(path: Path) -> int:
    """When a .deb was made, in seconds: the date of its first member, see deb(5) and ar(5)."""
    with path.open("rb") as stream:
        header = stream.read(68)
    if header[:8] != b"!<arch>\n":
        raise BuildError("is not a Debian package", place=str(path))
    return int(header[24:36])
