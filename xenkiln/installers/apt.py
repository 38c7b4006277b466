"""apt of this host with a state of its own: resolving and fetching, signatures checked by apt."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

from xenkiln.errors import BuildError, CommandError
from xenkiln.installers.apt_host import find_host_mirror, take_credentials, write_conf
from xenkiln.installers.cache import keep_file
from xenkiln.installers.contract import Selection
from xenkiln.installers.index_fields import check_checksum, index_error, place_by_checksum, read_size
from xenkiln.model.distributions import DEBIAN_RELEASES, DebianRelease
from xenkiln.model.fields import check_package
from xenkiln.model.packages import Package
from xenkiln.system.execution import Context
from xenkiln.system.files import hash_file
from xenkiln.system.layout import Paths

ARCHITECTURES = {"x86_64": "amd64", "i386": "i386"}
SECURITY_SUFFIX = "-security"
_WORDS = ("Package", "Version", "Architecture", "Filename")
APT_HELPER = "/usr/lib/apt/apt-helper"
ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 2.0
RETRY_PATTERN = (
    r"Could not resolve|Temporary failure|Connection|timed out|Unable to connect|50[0-9]  "
    r"|Error reading from server|Hash Sum mismatch|unexpected size|Unexpected size|Mirror sync"
)


def architecture(arch: str) -> str:
    """Debian's name of an architecture."""
    return ARCHITECTURES[arch]


def state_folder(context: Context) -> Path:
    """apt's own state for this image."""
    return context.paths.work / "apt"


def prepare_state(selection: Selection, context: Context) -> None:
    """An empty apt state; the host's own lists and cache are never touched."""
    state = state_folder(context)
    for name in ("etc/preferences.d", "etc/trusted.gpg.d", "etc/sources.list.d", "lib/lists/partial", "cache",
                 "archives/partial"):  # fmt: skip
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "status").write_text("")
    recommends = selection.packages.weak_dependencies
    conf = write_conf(state, architecture(selection.arch), recommends=recommends)
    context.runner.env["APT_CONFIG"] = str(conf)


def release_of(selection: Selection) -> DebianRelease:
    """Facts of the recipe's release."""
    return DEBIAN_RELEASES[selection.release]


def list_mirrors(selection: Selection, context: Context) -> list[str]:
    """Mirrors to try, in order: the recipe's, else this host's own, else the distribution's."""
    if selection.packages.mirrors:
        return [mirror.rstrip("/") for mirror in selection.packages.mirrors]
    host = find_host_mirror(release_of(selection).distribution, context)
    return [take_credentials(host, state_folder(context)) if host else release_of(selection).mirror]


def archive_of(mirror: str, suite: str, selection: Selection) -> str:
    """The archive that carries a suite: Debian keeps security updates beside the main one."""
    if release_of(selection).distribution == "debian" and suite.endswith(SECURITY_SUFFIX):
        return re.sub(r"/debian(/[0-9]{8}T[0-9]{6}Z)?$", r"/debian-security\1", mirror)
    return mirror


def update_lists(selection: Selection, context: Context) -> None:
    """Fetch the signed indexes, from the first mirror that answers well."""
    suites = selection.packages.suites or release_of(selection).suites
    keyring = find_keyring(selection, context.paths)
    trust = "trusted=yes" if selection.packages.signatures == "not checked" else f"signed-by={keyring}"
    # target: a host with a desktop or apt-file would fetch their indexes too.
    options = f"target=Packages {trust}"
    components = " ".join(selection.packages.components)
    mirrors = list_mirrors(selection, context)

    def update(mirror: str) -> None:
        lines = [f"deb [{options}] {archive_of(mirror, suite, selection)} {suite} {components}" for suite in suites]
        (state_folder(context) / "etc" / "sources.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
        context.tell("resolve the packages: read the mirror's index")
        context.runner.run(["apt-get", "update", "-o", "APT::Update::Error-Mode=any"])

    try_mirrors(mirrors, update, context)


def find_keyring(selection: Selection, paths: Paths) -> Path:
    """The recipe's keyring, or the distribution's own as its keyring package brings it to this host."""
    named = selection.packages.keyring
    keyring = paths.recipes / named if named else Path(release_of(selection).keyring)
    if not keyring.is_file() and selection.packages.signatures == "required":
        package = f"{release_of(selection).distribution}-{'archive-' if 'debian' in keyring.name else ''}keyring"
        raise BuildError("no such keyring, so signatures cannot be checked", place=str(keyring),
                         next_step=f"apt-get install {package}, or name one: packages.keyring")  # fmt: skip
    return keyring


def try_mirrors(mirrors: Sequence[str], work: Callable[[str], None], context: Context) -> None:
    """Do `work` with each mirror until one succeeds; network errors are tried again with growing pauses."""
    for number, mirror in enumerate(mirrors):
        try:
            _try_again(partial(work, mirror), context)
            return
        except CommandError as error:
            if number == len(mirrors) - 1:
                raise
            context.runner.note(f"# mirror {number + 1} failed, trying the next: {error.fact}")
            context.tell(f"mirror {number + 1} of {len(mirrors)} failed, trying the next")


def _try_again(work: Callable[[], None], context: Context) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            work()
            return
        except CommandError as error:
            if attempt == ATTEMPTS or not re.search(RETRY_PATTERN, "\n".join(error.last_lines)):
                raise
            pause = FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)
            context.tell(f"the mirror did not answer well, trying again in {pause:.0f} s")
            time.sleep(pause)


def read_epoch(context: Context) -> int:
    """The newest Date of the Release files that were read, in seconds."""
    dates = []
    for path in (state_folder(context) / "lib" / "lists").glob("*Release"):
        match = re.search(r"^Date: (.+)$", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        if match:
            dates.append(int(parsedate_to_datetime(match[1]).timestamp()))
    if not dates:
        raise BuildError("the mirror's Release files carry no Date", next_step="lock the recipe on another mirror")
    return max(dates)


def simulate_install(selection: Selection, wanted: Sequence[str], context: Context) -> tuple[Package, ...]:
    """What apt would install into an empty system, with checksums from the signed index."""
    context.tell("resolve the packages: dependencies")
    uris = context.runner.read(["apt-get", "-qq", "-y", "--print-uris", "install", *wanted])
    exact, origins = [], {}
    for match in re.finditer(r"^'([^']+)' ([^_ ]+)_([^_ ]+)_([^_ ]+)\.deb ", uris, re.MULTILINE):
        uri, name, version, arch = match.groups()
        version = version.replace("%3a", ":")
        exact.append(f"{name}:{arch}={version}" if arch != "all" else f"{name}={version}")
        origins[name, version] = "security" if "/debian-security/" in uri else "main"
    if not exact:
        return ()
    shown = context.runner.read(["apt-cache", "show", *exact])
    packages = {_parse_stanza(stanza, origins) for stanza in shown.split("\n\n") if stanza.strip()}
    return tuple(sorted(package for package in packages if package is not None))


def remove_cache(context: Context) -> None:
    """Remove apt's cache of the indexes, as large as they are: nothing that follows asks it."""
    for file in (state_folder(context) / "cache").glob("*.bin"):
        file.unlink()


def _parse_stanza(stanza: str, origins: dict[tuple[str, str], str]) -> Package | None:
    fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", stanza, re.MULTILINE))
    origin = origins.get((fields.get("Package", ""), fields.get("Version", "")))
    if origin is None:
        return None
    name, version, arch, location = (fields.get(field, "") for field in _WORDS)
    try:
        check_package(name, version, arch, location)
    except ValueError as error:
        raise index_error(f"an {error}") from error
    checksum = check_checksum("sha256", fields.get("SHA256", ""), name)
    size, installed = (read_size(fields.get(*field).strip(), name) for field in (("Size", ""), ("Installed-Size", "0")))
    return Package(name, version, arch, checksum, size, installed, location, origin)


def fetch_files(selection: Selection, packages: Sequence[Package], context: Context) -> None:
    """Fetch packages into the cache, all in one go, then one by one from the mirrors that are left.

    Raises one BuildError that lists every package that no mirror has any more.
    """
    folder = state_folder(context) / "archives"
    left = list(packages)
    failure: CommandError | None = None
    for mirror in list_mirrors(selection, context):
        download = partial(_download, mirror, tuple(left), folder, selection, context)
        try:
            _try_again(download, context)
        except CommandError as error:
            failure = error
        left = [package for package in left if not _take(package, folder, context)]
        if not left:
            return
    if failure and not re.search(r"\b404 |Not Found|File not found", "\n".join(failure.last_lines)):
        raise failure
    lines = "\n  ".join(package.full_name for package in left)
    raise BuildError(f"no mirror has these packages any more:\n  {lines}",
                     next_step=f"doit lock:{context.paths.name} takes today's versions; or name a mirror that keeps"
                               " old ones (packages.mirrors)")  # fmt: skip


def _download(mirror: str, packages: Sequence[Package], folder: Path, selection: Selection, context: Context) -> None:
    megabytes = sum(package.size for package in packages) / 1e6
    context.tell(f"fetch {len(packages)} packages, {megabytes:.1f} MB")
    words: list[str] = []
    for package in packages:
        archive = archive_of(mirror, f"-{package.origin}", selection)
        target = place_by_checksum(folder, package.sha256)
        if not _is_whole(target, package):
            words += [f"{archive}/{package.location}", str(target), f"SHA256:{package.sha256}"]

    def show(line: str) -> None:
        if line.startswith("Get:"):
            context.tell(f"fetch {len(packages)} packages, {megabytes:.1f} MB: {line.split()[0][4:]}")

    if words:
        context.runner.run([APT_HELPER, "download-file", *words], on_line=show)


def _take(package: Package, folder: Path, context: Context) -> bool:
    target = place_by_checksum(folder, package.sha256)
    if not _is_whole(target, package):
        return False
    keep_file(context.paths.cache, package, target)
    return True


def _is_whole(target: Path, package: Package) -> bool:
    """Whether a package was fetched; what a kill or the mirror cut short is removed."""
    if target.is_file() and hash_file(target) == package.sha256:
        return True
    target.unlink(missing_ok=True)
    return False
