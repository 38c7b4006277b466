"""Keys of a cloud and its users, and a small bundle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle.by_hand import Owner, make_owner
from bundle.made import bundle, make_keys, write_image
from xenkiln.bundle import parts


@pytest.fixture(scope="session")
def owners(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Owner]:
    folder = tmp_path_factory.mktemp("owners")
    return {name: make_owner(folder, name) for name in ("cloud", "user", "stranger")}


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.fixture
def small(owners: dict[str, Owner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle of several small parts; its manifest."""
    monkeypatch.setattr(parts, "PART_BYTES", 4096)
    image = write_image(tmp_path / "root.img", 10000, [(0, 10000)])
    return bundle(image, tmp_path / "bundle", make_keys(owners))
