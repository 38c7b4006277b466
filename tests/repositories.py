"""Small real rpm repositories for tests: packages with files and scripts, groups, signatures, mirrors that lie."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from gpg_agents import ended_agent

from xenkiln.installers.contract import Selection
from xenkiln.model.image import Packages, Repository
from xenkiln.system.commands import Runner
from xenkiln.system.execution import Context
from xenkiln.system.layout import Paths

EPOCH = 1_200_000_000
SPEC = """\
Name: {rpm.name}
Epoch: {rpm.epoch}
Version: {rpm.version}
Release: 1
Summary: A package of the tests
License: none
AutoReqProv: no
{requires}
%define __strip /bin/true
%define __os_install_post %nil
%description
A package of the tests.
%install
{install}
{post}
%files
{files}
"""
DEFINES = (
    "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
    "_buildhost tests",
    "use_source_date_epoch_as_buildtime 1",
    "clamp_mtime_to_source_date_epoch 1",
    "_build_id_links none",
    "debug_package %{nil}",
)


@dataclass(frozen=True)
class Rpm:
    """What a test package is: files are its text by path, copies are files of this host by path."""

    name: str
    files: Mapping[str, str] = field(default_factory=dict)
    copies: Mapping[str, Path] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    folders: Sequence[str] = ()
    requires: Sequence[str] = ()
    weak: Sequence[str] = ()
    post: str = ""
    version: str = "1.0"
    epoch: int = 0
    arch: str = "noarch"


def build_rpm(rpm: Rpm, folder: Path) -> Path:
    """Build one package with the real rpmbuild; returns its file in `folder`."""
    top = folder.parent / "rpmbuild" / rpm.name
    (top / "content").mkdir(parents=True, exist_ok=True)
    lines = ["mkdir -p %{buildroot}"]
    for number, (path, text) in enumerate(rpm.files.items()):
        (top / "content" / str(number)).write_text(text)
        mode = "0755" if text.startswith("#!") else "0644"
        lines.append(f"install -D -m {mode} {top}/content/{number} %{{buildroot}}{path}")
    lines += [f"install -D -m 0755 {source} %{{buildroot}}{path}" for path, source in rpm.copies.items()]
    for path, target in rpm.links.items():
        lines.append(f"mkdir -p %{{buildroot}}{os.path.dirname(path)} && ln -s {target} %{{buildroot}}{path}")  # noqa: PTH120
    lines += [f"mkdir -p %{{buildroot}}{path}" for path in rpm.folders]
    spec = top / "package.spec"
    paths = [*rpm.files, *rpm.copies, *rpm.links, *(f"%dir %attr(0555, 7, 7) {path}" for path in rpm.folders)]
    needs = [f"Requires: {name}" for name in rpm.requires] + [f"Recommends: {name}" for name in rpm.weak]
    post = f"%post\n{rpm.post}" if rpm.post else ""
    parts = {"requires": "\n".join(needs), "post": post, "install": "\n".join(lines), "files": "\n".join(paths)}
    spec.write_text(SPEC.format(rpm=rpm, **parts))
    folder.mkdir(parents=True, exist_ok=True)
    defines = [*DEFINES, f"_topdir {top}", f"_rpmdir {folder}", f"_tmppath {top}"]
    words = [word for define in defines for word in ("--define", define)]
    machine = "i386" if rpm.arch == "i686" else "x86_64"
    command = ["setarch", machine, "rpmbuild", "-bb", "--quiet", "--target", rpm.arch, *words, str(spec)]
    # Debian's rpm opens a database in the caller's home.
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), "HOME": str(top)}
    result = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder / f"{rpm.name}-{rpm.version}-1.{rpm.arch}.rpm"


def index_repository(folder: Path, groups: Mapping[str, Sequence[str]], *options: str) -> Path:
    """Index the packages in `folder` with createrepo_c, with these groups; returns the folder."""
    comps = "".join(
        f"<group><id>{group}</id><name>{group}</name><default>true</default><uservisible>true</uservisible><packagelist>"
        + "".join(f'<packagereq type="mandatory">{name}</packagereq>' for name in names)
        + "</packagelist></group>"
        for group, names in groups.items()
    )
    (folder / "comps.xml").write_text(f'<?xml version="1.0" encoding="UTF-8"?>\n<comps>{comps}</comps>\n')
    subprocess.run(["createrepo_c", "-q", "-g", "comps.xml", "--revision", str(EPOCH), "--set-timestamp-to-revision",
                    *options, folder], check=True)  # fmt: skip
    return folder


def make_repository(folder: Path, rpms: Sequence[Rpm], groups: Mapping[str, Sequence[str]], *options: str) -> Path:
    """Build and index a repository."""
    for rpm in rpms:
        build_rpm(rpm, folder)
    return index_repository(folder, groups, *options)


@dataclass(frozen=True)
class SigningKey:
    """A throw-away key pair: its home, its name and the armoured public part."""

    home: Path
    name: str
    public: Path

    def sign(self, *rpms: Path) -> None:
        # Debian's rpm looks for gpg2, which Debian's gnupg does not bring.
        defines = ["--define", f"_gpg_name {self.name}", "--define", f"__gpg {shutil.which('gpg')}"]
        environment = {**os.environ, "GNUPGHOME": str(self.home)}
        with ended_agent(self.home):
            subprocess.run(["rpmsign", *defines, "--addsign", *rpms], check=True, env=environment, capture_output=True)


def make_key(folder: Path, name: str) -> SigningKey:
    """Make a key with the real gpg."""
    public = folder / f"{name}.asc"
    with ended_agent(folder / name) as home:
        gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", ""]
        subprocess.run([*gpg, "--quick-gen-key", name, "rsa2048", "sign", "never"], check=True, capture_output=True)
        subprocess.run([*gpg, "--armor", "--output", str(public), "--export", name], check=True, capture_output=True)
    return SigningKey(home, name, public)


Answer = Callable[["Mirror", str], bool]
"""What a broken mirror does with a request for a path; False leaves it to the honest server."""


class Mirror(http.server.SimpleHTTPRequestHandler):
    """A repository over HTTP that may misbehave."""

    answer: ClassVar[Answer | None]
    asked: ClassVar[list[str]]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        answer = type(self).answer
        if answer is None or not answer(self, self.path):
            super().do_GET()

    def send_data(self, data: bytes, length: int | None = None) -> bool:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True
        return True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent."""


@contextmanager
def serve(folder: Path, answer: Answer | None = None, asked: list[str] | None = None) -> Iterator[str]:
    """Serve a folder on the loopback interface; yields its address."""
    behaviour = {"answer": answer and staticmethod(answer), "asked": [] if asked is None else asked}
    handler = type("Handler", (Mirror,), behaviour)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def truncate(mirror: Mirror, path: str) -> bool:
    """Send half of each package and hang up."""
    if not path.endswith(".rpm"):
        return False
    data = Path(mirror.translate_path(path)).read_bytes()
    return mirror.send_data(data[: len(data) // 2], len(data))


def lie(mirror: Mirror, path: str) -> bool:
    """Send packages of the right length with something else in them."""
    if not path.endswith(".rpm"):
        return False
    return mirror.send_data(bytes(Path(mirror.translate_path(path)).stat().st_size))


def lie_about_index(mirror: Mirror, path: str) -> bool:
    """Send a list of packages that is not the one repomd.xml promises."""
    return "primary" in path and mirror.send_data(b"something else")


def stall(mirror: Mirror, path: str) -> bool:
    """Start each package and never go on."""
    if not path.endswith(".rpm"):
        return False
    mirror.send_data(b"x", Path(mirror.translate_path(path)).stat().st_size)
    time.sleep(3)
    return True


def forget(mirror: Mirror, path: str) -> bool:
    """Have no packages any more."""
    if path.endswith(".rpm"):
        mirror.send_error(404)
        return True
    return False


def make_context(folder: Path, epoch: int = EPOCH) -> Context:
    """A build's context without a stage around it."""
    paths = Paths("sample", folder / "build", folder / "recipes")
    paths.recipes.mkdir(parents=True, exist_ok=True)
    home = paths.work / "home"
    home.mkdir(parents=True, exist_ok=True)
    env = {"HOME": str(home), "SOURCE_DATE_EPOCH": str(epoch)}
    return Context(paths, Runner(folder / "log", env), lambda text: None, {"epoch": str(epoch)})


def select(
    repositories: Sequence[Repository], *, arch: str = "x86_64", release: str = "7", **packages: object
) -> Selection:
    """A selection over these repositories; signatures are not checked unless asked for."""
    fields = {"repositories": tuple(repositories), "signatures": "not checked", **packages}
    return Selection("redhat", "dnf", release, arch, Packages.model_validate(fields))


def name_repository(*baseurls: str, name: str = "base", gpgkeys: Sequence[Path] = ()) -> Repository:
    """A repository of a recipe."""
    return Repository(name=name, title=f"Repository {name}", baseurls=baseurls, gpgkeys=tuple(map(str, gpgkeys)))


def wrap_programs(name: str, programs: Mapping[str, str], **fields: object) -> Rpm:
    """A package with programs of this host (guest's path -> command) and every library they load."""
    copies = {path: Path(subprocess.run(["which", command], check=True, capture_output=True, text=True).stdout.strip())
              for path, command in programs.items()}  # fmt: skip
    for program in list(copies.values()):
        listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
        libraries = [word for word in listed.split() if word.startswith("/")]
        copies |= {library: Path(library).resolve() for library in libraries}
    return Rpm(name, copies=copies, arch="x86_64", **fields)  # type: ignore[arg-type]


def wrap_shell() -> Rpm:
    """A package with a shell, for packages with scripts."""
    return wrap_programs("shell", {"/bin/sh": "dash"})
