"""A guest of every kind, a quick one, and a cloud that has no complaint in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from guest.cloud import Cloud, run_cloud
from guest.guests import Guest, list_kinds, make_guest


@pytest.fixture(params=list_kinds())
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Guest:
    return make_guest(tmp_path / "guest", request.param)


@pytest.fixture
def quick_guest(tmp_path: Path) -> Guest:
    return make_guest(tmp_path / "guest", list_kinds()[-1])


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with run_cloud() as running:
        yield running
        assert running.complaints == []
