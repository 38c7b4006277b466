"""What the tests of recipes share."""

from __future__ import annotations

from pathlib import Path

import pytest

from xenkiln.model import references

MODULES = {
    "families": ["debian", "redhat", "tiny"],
    "ramdisks": ["busybox", "dracut", "mkinitramfs", "mkinitrd"],
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate", action="store_true", help="write golden files anew, to be read as a diff"
    )


@pytest.fixture
def regenerate(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are written instead of compared (`pytest tests/model --regenerate`)."""
    return bool(request.config.getoption("--regenerate", default=False))


@pytest.fixture
def fixed_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages list the families and makers there are; a new one must not change what is expected here."""
    monkeypatch.setattr(references, "list_modules", lambda room, _: MODULES[room])


@pytest.fixture
def recipes() -> Path:
    return Path(__file__).parents[2] / "recipes" / "images"
