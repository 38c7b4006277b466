"""A small Debian archive made in a test: real packages, real indexes, a real signature."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from tempfile import TemporaryDirectory

from gpg_agents import ended_agent

from xenkiln.installers.contract import Selection
from xenkiln.model.image import Packages

EPOCH = 1_700_000_000
ADDRESS = "archive@example.org"


def run(*argv: str | Path, env: Mapping[str, str] | None = None, input_bytes: bytes | None = None) -> bytes:
    """Run a tool of the host; fails the test with its own words."""
    done = subprocess.run(argv, capture_output=True, env={**os.environ, **(env or {})}, input=input_bytes)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@dataclass(frozen=True)
class SigningKey:
    """A key of its own in a keyring of its own."""

    home: Path

    def sign(self, data: bytes) -> bytes:
        """The text with a signature around it, as an InRelease file has it."""
        return run("gpg", "--batch", "--yes", "--clearsign", "-o", "-", env={"GNUPGHOME": str(self.home)},
                   input_bytes=data)  # fmt: skip

    def export(self, target: Path) -> Path:
        """The public half, as a keyring."""
        target.write_bytes(run("gpg", "--batch", "--export", ADDRESS, env={"GNUPGHOME": str(self.home)}))
        return target


@contextmanager
def make_signing_key() -> Iterator[SigningKey]:
    """A fresh key; its agent is ended with the block."""
    # Not below pytest's own folder: the agent's socket must fit into 108 bytes.
    with TemporaryDirectory(prefix="gpg-", ignore_cleanup_errors=True) as folder, ended_agent(Path(folder)) as home:
        run("gpg", "--batch", "--passphrase", "", "--quick-gen-key", ADDRESS, "default", "sign", "never",
            env={"GNUPGHOME": folder})  # fmt: skip
        yield SigningKey(home)


@dataclass
class Archive:
    """An archive being filled: add packages, then publish suites."""

    folder: Path
    key: SigningKey
    stanzas: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, version: str = "1.0", *, arch: str = "all", pool: str = "pool", **fields: str) -> Path:
        """Build a package; further fields of its control file by name (Depends="libc6")."""
        tree = self.folder.parent / "tree" / f"{name}_{version.replace(':', '_')}"
        (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
        control = {"Package": name, "Version": version, "Architecture": arch, "Maintainer": "nobody <n@example.org>",
                   "Installed-Size": "10", "Description": f"the package {name}",
                   **{key.replace("_", "-"): value for key, value in fields.items()}}  # fmt: skip
        (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in control.items()))
        (tree / "usr/share/doc" / name).mkdir(parents=True, exist_ok=True)
        (tree / "usr/share/doc" / name / "copyright").write_text(f"{name} {version}\n" * 100)
        file = self.folder / pool / f"{name}_{version.partition(':')[2] or version}_{arch}.deb"
        file.parent.mkdir(parents=True, exist_ok=True)
        run("dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, file, env={"SOURCE_DATE_EPOCH": str(EPOCH)})
        data = file.read_bytes()
        extra = {"Filename": str(file.relative_to(self.folder)), "Size": str(len(data)),
                 "SHA256": hashlib.sha256(data).hexdigest()}  # fmt: skip
        stanza = "".join(f"{key}: {value}\n" for key, value in {**control, **extra}.items())
        self.stanzas.setdefault(pool, []).append(stanza)
        return file

    def publish(self, suite: str, *, epoch: int = EPOCH, pool: str = "pool", signed: bool = True) -> None:
        """Write the suite's indexes over all packages of the pool."""
        text = "\n".join(self.stanzas.get(pool, [])).encode()
        folder = self.folder / "dists" / suite
        sums = []
        packages = "main/binary-amd64/Packages"
        for name, data in ((packages, text), (f"{packages}.gz", gzip.compress(text, mtime=0)),
                           ("main/Contents-amd64", b"usr/bin/alpha alpha\n")):  # fmt: skip
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            sums.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}")
        release = "\n".join([f"Origin: Test\nSuite: {suite}\nCodename: {suite}\nDate: {formatdate(epoch, usegmt=True)}",
                             "Architectures: amd64\nComponents: main\nSHA256:", *sums, ""]).encode()  # fmt: skip
        for old in ("InRelease", "Release"):
            (folder / old).unlink(missing_ok=True)
        if signed:
            (folder / "InRelease").write_bytes(self.key.sign(release))
        else:
            (folder / "Release").write_bytes(release)


def select(*mirrors: str, install: tuple[str, ...] = ("server",), **packages: object) -> Selection:
    """A recipe's selection from this archive."""
    settings = {"mirrors": tuple(f"{mirror}/debian" for mirror in mirrors), "suites": ("bookworm",),
                "keyring": "archive.gpg", "install": install, **packages}  # fmt: skip
    return Selection("debian", "mmdebstrap", "bookworm", "x86_64", Packages.model_validate(settings))
