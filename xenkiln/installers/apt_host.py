"""What this host's own apt knows that a build needs too: its mirror, its proxies, certificates and credentials."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from xenkiln.errors import HostError
from xenkiln.system.execution import Context
from xenkiln.system.files import write_finished

HOST_FOLDER = Path("/etc/apt")
CREDENTIALS = Path("etc/auth.conf")
"""Below our state: the host's own, or that and what its sources hold."""
OS_RELEASE = Path("/etc/os-release")
WITHOUT_LISTS = ("-o", "Dir::State::Lists=/nonexistent")
"""Only the sources count; where docker-clean switches off apt's cache, it would be made anew from all lists."""
TIMEOUT_SECONDS = 30
"""How long a mirror may be silent; while it sends, however slowly, it is waited for."""

FIRST = """\
Dir "/";
Dir::Etc "{state}/etc";
Dir::Etc::main "{state}/main.conf";
Dir::Etc::Parts "{host}/apt.conf.d";
"""
LAST = """\
{include}Dir::Etc::netrc "{state}/etc/auth.conf";
Dir::Etc::netrcparts "{host}/auth.conf.d";
Dir::State "{state}/lib";
Dir::State::status "{state}/status";
Dir::Cache "{state}/cache";
Dir::Cache::archives "{state}/archives/";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "";
#clear APT::Architectures;
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Install-Recommends "{recommends}";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
pkgCacheGen::ForceEssential ",";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
APT::Get::AllowUnauthenticated "false";
APT::Get::Force-Yes "false";
#clear APT::Default-Release;
#clear APT::NeverAutoRemove;
#clear Acquire::Languages;
Acquire::Languages "none";
Acquire::GzipIndexes "false";
Acquire::Retries "0";
Acquire::http::Timeout "{timeout}";
Acquire::https::Timeout "{timeout}";
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear AptCli::Hooks;
"""
"""apt.conf(5): APT_CONFIG is read first, the parts then, the main file last; only there can hooks be cleared.

ForceEssential: apt counts itself as essential, mmdebstrap's smallest variant does not. Whether unsigned
indexes are taken is for the recipe to say (by trusted=yes in its source) and not for the host. GzipIndexes:
each record is read by seeking, and in a packed index that means to unpack all that lies before it."""


def write_conf(state: Path, arch: str, *, recommends: bool) -> Path:
    """Files for APT_CONFIG: the host's settings for reaching mirrors, our state, and none of the host's hooks."""
    own = HOST_FOLDER / "apt.conf"
    include = f'#include "{own}";\n' if own.is_file() else ""
    values = {"state": state, "host": HOST_FOLDER, "include": include, "arch": arch, "timeout": TIMEOUT_SECONDS,
              "recommends": str(recommends).lower()}  # fmt: skip
    (state / "apt.conf").write_text(FIRST.format(**values), encoding="utf-8")
    (state / "main.conf").write_text(LAST.format(**values), encoding="utf-8")
    credentials = state / CREDENTIALS
    credentials.unlink(missing_ok=True)
    credentials.symlink_to(HOST_FOLDER / "auth.conf")
    return state / "apt.conf"


def take_credentials(url: str, state: Path) -> str:
    """The address without a name and a password in it; apt finds them in a file that only root reads.

    In the address they would be seen in arguments, logs and lists of sources.
    """
    parts = urlsplit(url)
    if parts.username is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    words = ["machine", f"{parts.scheme}://{host}", "login", unquote(parts.username)]
    words += ["password", unquote(parts.password)] if parts.password else []
    if any(not word or re.search(r"\s", word) for word in words):
        raise HostError("this host's mirror has a name or password with blanks, which auth.conf(5) cannot hold",
                        place=str(HOST_FOLDER), next_step="name another mirror: packages.mirrors")  # fmt: skip
    own = HOST_FOLDER / "auth.conf"
    more = own.read_text(encoding="utf-8") if own.is_file() else ""
    write_finished(state / CREDENTIALS, f"{' '.join(words)}\n{more}", 0o600)
    return parts._replace(netloc=host).geturl()


def find_host_mirror(distribution: str, context: Context) -> str | None:
    """The mirror that this host itself is configured with, when it carries that distribution.

    A repository of somebody else may name the same suite: the distribution's own has a component
    `main` and, where several have, the updates beside it.
    """
    host = _read_os_release()
    if host.get("ID") != distribution:
        return None
    codename = host.get("VERSION_CODENAME", "")
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    # Without our APT_CONFIG: this question is about the host.
    output = context.runner.read(["env", "-u", "APT_CONFIG", "apt-get", "indextargets", "--no-release-info",
                                  *WITHOUT_LISTS, "--format", form, "Identifier: Packages"])  # fmt: skip
    rows = [line.split() for line in output.splitlines()]
    found = {(row[0], row[1]): _follow_list(row[0]) for row in rows if row[2:] == ["main"]}
    mirrors = [(uri, mirror) for (uri, suite), mirror in found.items() if suite == codename and mirror]
    mirrors.sort(key=lambda pair: (pair[0], f"{codename}-updates") not in found)
    return mirrors[0][1] if mirrors else None


def _follow_list(uri: str) -> str | None:
    """apt-transport-mirror(1), as cloud images use it: the first line of the list; None for a CD and the like."""
    scheme, _, path = uri.partition(":")
    if scheme == "mirror+file":
        lines = Path(path).read_text(encoding="utf-8").splitlines() if Path(path).is_file() else []
        uri = next((line.split()[0] for line in lines if line.strip() and not line.startswith("#")), "")
    return uri.rstrip("/") if uri.startswith(("http://", "https://", "file:/")) else None


def _read_os_release() -> dict[str, str]:
    lines = OS_RELEASE.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {name: value.strip('"') for name, value in pairs}
