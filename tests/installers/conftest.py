"""A signed archive, a mirror that serves it, and apt's context: for every test of installing Debian packages."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from debian_archive import Archive, SigningKey, make_signing_key
from mirrors import Mirror, serve_mirror

from xenkiln.installers import apt_host
from xenkiln.system.commands import Runner
from xenkiln.system.execution import Context
from xenkiln.system.layout import Paths

DOUBTED_SECONDS = 1


@pytest.fixture(autouse=True)
def _start_quickly(quick_starts: None) -> None:
    """apt and gpg, many times."""


@pytest.fixture(scope="session")
def signing_key() -> Iterator[SigningKey]:
    with make_signing_key() as key:
        yield key


@pytest.fixture(scope="session")
def built_archive(tmp_path_factory: pytest.TempPathFactory, signing_key: SigningKey) -> Archive:
    archive = Archive(tmp_path_factory.mktemp("archive") / "debian", signing_key)
    archive.add("alpha", Essential="yes", arch="amd64")
    archive.add("beta", "1:2.0-1", Priority="required", arch="amd64", Depends="libone (>= 1.0)")
    archive.add("apt", Priority="important", arch="amd64")
    archive.add("libone")
    archive.add("server", Depends="libone", Recommends="extra")
    archive.add("extra")
    archive.publish("bookworm")
    return archive


@pytest.fixture
def archive(built_archive: Archive, tmp_path: Path) -> Archive:
    """A copy that a test may change."""
    stanzas = {pool: list(texts) for pool, texts in built_archive.stanzas.items()}
    copy = Archive(tmp_path / "mirror/debian", built_archive.key, stanzas)
    shutil.copytree(built_archive.folder, copy.folder)
    return copy


@pytest.fixture
def mirror(archive: Archive) -> Iterator[Mirror]:
    with serve_mirror(archive.folder.parent) as running:
        yield running


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, not really waited for."""
    asked: list[float] = []
    monkeypatch.setattr(time, "sleep", asked.append)
    return asked


@pytest.fixture
def context(tmp_path: Path, archive: Archive, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> Context:
    monkeypatch.delenv("XENKILN_CACHE", raising=False)
    monkeypatch.setattr(apt_host, "TIMEOUT_SECONDS", DOUBTED_SECONDS)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    host = tmp_path / "host-apt"
    (host / "apt.conf.d").mkdir(parents=True)
    monkeypatch.setattr(apt_host, "HOST_FOLDER", host)
    paths = Paths("img", tmp_path / "build", tmp_path / "recipes")
    paths.recipes.mkdir()
    archive.key.export(paths.recipes / "archive.gpg")
    paths.work.mkdir(parents=True)
    return Context(paths, Runner(paths.work / "log"), lambda text: None)
