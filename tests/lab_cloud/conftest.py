"""Clouds for tests: one for each test that wants its own, and one of each release for all others."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from quick_starts import start_without_fork

from lab_cloud.accounts import make_accounts
from lab_cloud.bundles import Bundle
from lab_cloud.roots import make_root
from lab_cloud.running import Running, serve
from xenkiln.lab.cloud import keeper


@pytest.fixture(scope="session", autouse=True)
def quick() -> Iterator[None]:
    """Nobody else has work on the cloud's processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeper, "POLL_SECONDS", 0.01)
        yield


@pytest.fixture(scope="module", autouse=True)
def quick_starts() -> Iterator[None]:
    with start_without_fork():
        yield


@pytest.fixture(scope="session")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_accounts(tmp_path_factory.mktemp("accounts"))


@pytest.fixture(scope="session")
def shared(accounts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Running]]:
    """Returns get(profile): a cloud that many tests use, each with names of its own."""
    folder = tmp_path_factory.mktemp("shared")
    running: dict[str, Running] = {}
    with ExitStack() as stack:

        def get(profile: str) -> Running:
            if profile not in running:
                own = shutil.copytree(accounts[profile], folder / profile)
                running[profile] = stack.enter_context(serve(own, profile, bucket_limit=None))
            return running[profile]

        yield get


Shared = Callable[[str], Running]
Start = Callable[..., Running]
Roots = Callable[[str], Bundle]


@pytest.fixture(scope="session")
def roots(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Roots:
    """Returns get(profile): a good root in the shared cloud, uploaded; each test signs a manifest of its own."""
    made: dict[str, Bundle] = {}

    def get(profile: str) -> Bundle:
        if profile not in made:
            made[profile] = make_root(shared(profile), tmp_path_factory.mktemp("root"))
            made[profile].put(made[profile].parts)
        return made[profile]

    return get


@pytest.fixture
def start(accounts: dict[str, Path], tmp_path: Path) -> Iterator[Start]:
    """Returns start(profile, **changes of the profile); each profile's cloud keeps its folder."""
    with ExitStack() as stack:

        def begin(profile: str, **changes: Any) -> Running:
            folder = tmp_path / "clouds" / profile
            if not folder.exists():
                shutil.copytree(accounts[profile], folder)
            return stack.enter_context(serve(folder, profile, **changes))

        yield begin
