"""The strict double of Amazon, one for a session, as new for every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clouds.amazon.strict_ebs import StrictAmazon, serve
from clouds.amazon.uploading import make_clients
from xenkiln.clouds import crew


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second is long for a test."""
    monkeypatch.setattr(crew, "LOOK_SECONDS", 0.02)


@pytest.fixture(scope="session")
def begin_amazon() -> Iterator[Callable[[], StrictAmazon]]:
    with serve() as begin:
        yield begin


@pytest.fixture(scope="session")
def amazon_clients(begin_amazon: Callable[[], StrictAmazon]) -> tuple[Any, Any]:
    return make_clients(begin_amazon().endpoint)


@pytest.fixture
def amazon(begin_amazon: Callable[[], StrictAmazon]) -> StrictAmazon:
    return begin_amazon()


@pytest.fixture
def clients(amazon: StrictAmazon, amazon_clients: tuple[Any, Any]) -> tuple[Any, Any]:
    return amazon_clients
