"""Sites for each profile of the lab's cloud, and for Amazon."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import botocore.endpoint
import pytest
from clouds.amazon.strict_ebs import StrictAmazon
from clouds.amazon.strict_ebs import serve as serve_amazon
from lab_cloud.accounts import make_accounts
from quick_starts import start_without_fork

from publishing.amazon_site import HVM, Desk, as_disk, as_filesystem, make_tiny_for
from publishing.meddling import Meddler, meddle_with
from publishing.site import Site, make_image, make_tiny, serve, write_cloud
from xenkiln.bundle import parts
from xenkiln.clouds import credentials, crew
from xenkiln.clouds.calls import Patience
from xenkiln.lab.cloud import keeper
from xenkiln.model.cloud import CloudRecipe
from xenkiln.model.loader import load_recipe
from xenkiln.publishing import launching, registering

Begin = Callable[..., Site]


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second is long for a test."""
    monkeypatch.setattr(launching, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(launching, "QUIET_SECONDS", 0.2)


@pytest.fixture(scope="module", autouse=True)
def quick_cloud() -> Iterator[None]:
    """What the cloud does in a thread beside us; a private key is checked once, which takes 40 ms."""
    with pytest.MonkeyPatch.context() as patch, start_without_fork():
        patch.setattr(keeper, "POLL_SECONDS", 0.01)
        patch.setattr(credentials, "parse_private_key", cache(credentials.parse_private_key))
        yield


@pytest.fixture(scope="session")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_accounts(tmp_path_factory.mktemp("accounts"))


@pytest.fixture
def begin(accounts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Returns begin(profile, more of the cloud's recipe, how the guests go): a site with an image and a cloud."""
    monkeypatch.setenv("XENKILN_BUILD", str(tmp_path / "build"))
    with ExitStack() as stack:

        def start(profile: str, more: str = "", how: str = "well") -> Site:
            folder = tmp_path / "cloud"
            shutil.copytree(accounts[profile], folder)
            server = stack.enter_context(serve(folder, profile, how))
            images = tmp_path / "build" / "images" / "tiny"
            make_image(images)
            cloud = write_cloud(tmp_path / "mine.yaml", profile, folder / "credentials" / "eucarc", more)
            return Site(make_tiny(), cloud, server, images)

        yield start


@pytest.fixture
def hurry_at_amazon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(Patience, "pause_seconds", lambda _self, _failures: 0.001)


@pytest.fixture(scope="session")
def begin_amazon() -> Iterator[Callable[[], StrictAmazon]]:
    with serve_amazon() as begin:
        yield begin


@pytest.fixture
def amazon(begin_amazon: Callable[[], StrictAmazon]) -> StrictAmazon:
    amazon = begin_amazon()
    amazon.looks_until_completed = 0
    return amazon


@pytest.fixture
def begin_at_amazon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amazon: StrictAmazon, hurry_at_amazon: None
) -> Callable[..., Desk]:
    """Returns begin(publish section, endpoint, more of the cloud's recipe)."""
    for name in [name for name in os.environ if name.startswith(("EC2_", "AWS_", "EUCA", "S3_"))]:
        monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), "XENKILN_BUILD": str(tmp_path / "build"), "AWS_ACCESS_KEY_ID": "AKIAX",
                        "AWS_SECRET_ACCESS_KEY": "hush", "AWS_EC2_METADATA_DISABLED": "true"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    images = tmp_path / "build" / "images" / "tiny"
    images.mkdir(parents=True)

    def start(section: dict[str, Any] = HVM, endpoint: str = "", more: str = "") -> Desk:
        path = tmp_path / "ec2.yaml"
        server = endpoint or amazon.endpoint
        path.write_text(f"summary: Amazon\ndialect: amazon\naws_region: eu-west-1\nebs_url: {server}\n{more}")
        # As every tool of Amazon is told where else it is.
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", server)
        desk = Desk(make_tiny_for(section), load_recipe(path, CloudRecipe), images)
        for name in ("vmlinuz", "initrd.img"):
            (images / name).write_bytes(name.encode())
        desk.write("root.img", as_filesystem(b"one"))
        desk.write("disk.img", as_disk(b"one"))
        return desk

    return start


PART_BYTES = 16 << 10


class Hurry:
    """time, for botocore: it need not wait between tries."""

    @staticmethod
    def sleep(_: float) -> None:
        """At once."""


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(botocore.endpoint, "time", Hurry)
    monkeypatch.setattr(registering, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(registering, "QUIET_SECONDS", 0.2)


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith(("upload", "ThreadPool"))]
    assert left == []


Meet = Callable[..., tuple[Site, Meddler]]


@pytest.fixture
def meet(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> Meet:
    """Returns meet(profile, more of the cloud's recipe): a site of a kernel in several small parts, and its meddler."""

    def start(profile: str = "4.4", more: str = "", files: tuple[str, ...] = ("kernel",)) -> tuple[Site, Meddler]:
        monkeypatch.setattr(parts, "PART_BYTES", PART_BYTES)
        site = begin(profile, more)
        own = {role: file for role, file in site.subject.files.items() if role in files}
        site = replace(site, subject=replace(site.subject, files=own))
        return site, meddle_with(site, monkeypatch)

    return start
