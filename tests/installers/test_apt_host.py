"""What is taken from this host's apt, its mirror, proxies and credentials, and what is not: hooks and state."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import pytest
from conftest import FakeToolMaker
from debian_archive import Archive, select
from mirrors import Mirror

from xenkiln.errors import CommandError, HostError
from xenkiln.installers import apt, apt_host, mmdebstrap
from xenkiln.installers.contract import Selection
from xenkiln.model.image import Packages
from xenkiln.system.execution import Context

DEBIAN_OS = 'ID=debian\nVERSION_CODENAME="bookworm"\n'


@pytest.fixture
def host(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_tool: FakeToolMaker) -> Path:
    """The /etc/apt of a host that the test makes up; questions about it are answered by the real apt."""
    folder = tmp_path / "etc/apt"
    for name in ("apt.conf.d", "sources.list.d", "preferences.d", "auth.conf.d"):
        (folder / name).mkdir(parents=True)
    monkeypatch.setattr(apt_host, "HOST_FOLDER", folder)
    monkeypatch.setattr(apt_host, "OS_RELEASE", tmp_path / "os-release")
    (tmp_path / "os-release").write_text(DEBIAN_OS)
    lists = tmp_path / "host-lists"
    body = f'[ "$1" = indextargets ] && set -- -o Dir::Etc={folder} -o Dir::State::lists={lists} "$@"\n'
    fake_tool("apt-get", f'{body}exec /usr/bin/apt-get "$@"')
    return folder


def find_mirror(context: Context, distribution: str = "debian") -> str | None:
    return apt_host.find_host_mirror(distribution, context)


ONE_LINE = """\
deb http://near.example/debian/ bookworm main contrib
deb http://near.example/debian bookworm-updates main
"""
DEB822 = """\
Types: deb deb-src
URIs: http://near.example/debian/
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


@pytest.mark.parametrize(("name", "text"), [("sources.list", ONE_LINE), ("sources.list.d/debian.sources", DEB822)])
def test_the_hosts_mirror_is_found_in_both_forms(name: str, text: str, host: Path, context: Context) -> None:
    (host / name).write_text(text)
    assert find_mirror(context) == "http://near.example/debian"


def test_an_https_mirror_with_options_is_found(host: Path, context: Context) -> None:
    (host / "sources.list").write_text("deb [arch=amd64] https://near.example/os/debian bookworm main\n")
    assert find_mirror(context) == "https://near.example/os/debian"


def test_the_archive_of_somebody_else_is_not_the_mirror(host: Path, context: Context) -> None:
    """Both come first in the order of names, and name the same suite."""
    (host / "sources.list.d/a.list").write_text("deb https://container.example/linux/debian bookworm stable\n")
    (host / "sources.list.d/b.list").write_text("deb https://vpn.example/debian bookworm main\n")
    (host / "sources.list.d/debian.sources").write_text(DEB822)
    assert find_mirror(context) == "http://near.example/debian"


def test_the_list_of_a_cloud_image_is_followed(host: Path, context: Context) -> None:
    listed = host / "mirrors/debian.list"
    listed.parent.mkdir()
    listed.write_text("# nearest first\nhttps://cloud.example/debian\nhttps://deb.example/debian\n")
    (host / "sources.list").write_text(f"deb mirror+file:{listed} bookworm main\n")
    assert find_mirror(context) == "https://cloud.example/debian"


@pytest.mark.parametrize("line", ["deb cdrom:[Debian]/ bookworm main", "deb mirror+file:/no/such/list bookworm main",
                                  "deb http://near.example/debian trixie main", ""])  # fmt: skip
def test_without_a_usable_mirror_there_is_none(line: str, host: Path, context: Context) -> None:
    (host / "sources.list").write_text(line + "\n")
    assert find_mirror(context) is None


def test_a_host_of_another_distribution_has_no_mirror_for_it(host: Path, context: Context) -> None:
    (host / "sources.list").write_text(ONE_LINE)
    assert find_mirror(context, "ubuntu") is None


@pytest.mark.parametrize(("mirror", "security"), [
    ("http://near.example/debian", "http://near.example/debian-security"),
    ("http://snapshot.example/archive/debian/20250520T000000Z",
     "http://snapshot.example/archive/debian-security/20250520T000000Z"),
    ("http://debian/all", "http://debian/all"),
])  # fmt: skip
def test_debian_keeps_security_updates_beside_its_archive(mirror: str, security: str) -> None:
    selection = Selection("debian", "mmdebstrap", "bookworm", "x86_64", Packages())
    assert apt.archive_of(mirror, "bookworm-security", selection) == security
    assert apt.archive_of(mirror, "bookworm-updates", selection) == mirror


def test_ubuntu_keeps_security_updates_in_its_archive() -> None:
    selection = Selection("debian", "mmdebstrap", "noble", "x86_64", Packages())
    mirror = "http://archive.example/debian"
    assert apt.archive_of(mirror, "noble-security", selection) == mirror


def select_alpha(mirror: str) -> Selection:
    return select(mirror, install=(), variant="essential")


def build(selection: Selection, context: Context) -> None:
    """Resolve, fetch and lay out, as a build does."""
    plan = mmdebstrap.resolve_packages(selection, context)
    files = mmdebstrap.fetch_packages(selection, plan, context)
    folder = context.paths.work / "packages"
    folder.mkdir(exist_ok=True)
    mmdebstrap.make_repository(selection, plan, files, folder, context)


@pytest.mark.parametrize("place", ["apt.conf", "apt.conf.d/80proxy"])
def test_the_hosts_proxy_is_used(place: str, host: Path, mirror: Mirror, context: Context) -> None:
    (host / place).write_text(f'Acquire::http::Proxy "{mirror.url}";\n')
    build(select_alpha("http://far.example"), context)
    assert mirror.count_requests("http://far.example/debian/*") == len(mirror.requests) > 2


def test_no_hook_of_the_host_runs(host: Path, mirror: Mirror, context: Context, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    hooks = ("APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success",
             "DPkg::Pre-Invoke", "DPkg::Post-Invoke", "DPkg::Pre-Install-Pkgs", "AptCli::Hooks::Install",
             "AptCli::Hooks::Upgrade")  # fmt: skip
    (host / "apt.conf.d/50hooks").write_text("".join(f'{hook} {{ "echo {hook} >>{ran}"; }};\n' for hook in hooks))
    (host / "apt.conf").write_text(f'APT::Update::Post-Invoke {{ "echo main >>{ran}"; }};\n')
    build(select_alpha(mirror.url), context)
    assert not ran.exists()


def test_settings_of_the_host_do_not_change_the_plan(host: Path, mirror: Mirror, context: Context) -> None:
    (host / "apt.conf.d/99own").write_text(
        'APT::Default-Release "sid";\nAPT::Architectures { "amd64"; "i386"; };\nAPT::Install-Recommends "true";\n'
        'Acquire::IndexTargets { deb::Contents-deb { MetaKey "$(COMPONENT)/Contents-$(ARCHITECTURE)"; '
        'Description "contents"; DefaultEnabled "true"; }; };\nAcquire::Languages { "en"; "de"; };\n'
    )
    (host / "preferences.d/hold").write_text("Package: *\nPin: release *\nPin-Priority: -1\n")
    build(select_alpha(mirror.url), context)
    asked = [path.removeprefix("/debian/") for path in mirror.requests]
    assert asked == ["dists/bookworm/InRelease", "dists/bookworm/main/binary-amd64/Packages.gz",
                     "pool/alpha_1.0_amd64.deb"]  # fmt: skip


def test_credentials_of_the_host_are_used_and_kept_out_of_the_log(
    host: Path, mirror: Mirror, context: Context
) -> None:
    secret = "not-to-be-seen"
    (host / "auth.conf.d/own.conf").write_text(f"machine {mirror.url} login me password {secret}\n")
    build(select_alpha(mirror.url), context)
    assert len(mirror.credentials) == len(mirror.requests)
    written = [path for path in context.paths.build.rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if secret.encode() in path.read_bytes()]


INSECURE = """\
Acquire::AllowInsecureRepositories "true";
Acquire::AllowWeakRepositories "true";
Acquire::AllowDowngradeToInsecureRepositories "true";
APT::Get::AllowUnauthenticated "true";
APT::Get::Force-Yes "true";
"""


@pytest.mark.parametrize("place", ["apt.conf", "apt.conf.d/99insecure"])
def test_no_setting_of_the_host_takes_unsigned_packages(
    place: str, host: Path, mirror: Mirror, archive: Archive, context: Context
) -> None:
    (host / place).write_text(INSECURE)
    archive.publish("bookworm", signed=False)
    with pytest.raises(CommandError, match="not signed"):
        build(select_alpha(mirror.url), context)
    assert mirror.count_requests("*.deb") == 0


def test_credentials_in_the_hosts_sources_are_used_and_kept_out_of_sight(
    host: Path, mirror: Mirror, context: Context
) -> None:
    place = mirror.url.removeprefix("http://")
    (host / "sources.list").write_text(f"deb http://bob:hunter2%40x@{place}/debian bookworm main\n")
    (host / "auth.conf").write_text("machine http://other.example login a password b\n")
    commands: list[str] = []
    context.runner.on_command = lambda argv: commands.append(" ".join(argv))
    build(select(install=(), variant="essential", mirrors=()), context)
    expected = "Basic " + base64.b64encode(b"bob:hunter2@x").decode()
    assert mirror.credentials == [expected] * len(mirror.requests)
    told = [path for path in context.paths.build.rglob("*") if path.is_file() and b"hunter" in path.read_bytes()]
    assert told == [apt.state_folder(context) / "etc/auth.conf"]
    assert told[0].stat().st_mode & 0o777 == 0o600
    assert "other.example" in told[0].read_text()
    assert not [line for line in commands if "hunter" in line or "bob" in line]


def test_credentials_are_gone_with_the_source_that_had_them(host: Path, mirror: Mirror, context: Context) -> None:
    place = mirror.url.removeprefix("http://")
    selection = select(install=(), variant="essential", mirrors=())
    for user in ("bob:hunter2@", ""):
        (host / "sources.list").write_text(f"deb http://{user}{place}/debian bookworm main\n")
        build(selection, context)
        shutil.rmtree(context.paths.work / "packages")
        shutil.rmtree(context.paths.cache)
    assert 0 < len(mirror.credentials) < len(mirror.requests)
    assert not (apt.state_folder(context) / "etc/auth.conf").exists()


@pytest.mark.parametrize("user", ["bob:a%20b", "bob:a%0alogin", ":secret"])
def test_credentials_that_cannot_be_kept_are_refused_unseen(user: str, tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        apt_host.take_credentials(f"http://{user}@near.example/debian", tmp_path)
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_hosts_own_apt_is_not_touched(host: Path, mirror: Mirror, context: Context) -> None:
    def look() -> dict[str, tuple[int, int]]:
        folders = [Path("/var/lib/apt"), Path("/var/cache/apt"), Path("/etc/apt")]
        paths = [path for folder in folders for path in [folder, *folder.rglob("*")]]
        return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in paths}

    before = look()
    build(select_alpha(mirror.url), context)
    assert look() == before


def test_tools_are_known_before_the_first_change() -> None:
    assert {"apt-get", "apt-cache", "/usr/lib/apt/apt-helper"} <= set(mmdebstrap.RESOLVE_TOOLS)
