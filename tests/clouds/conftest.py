"""A user with a home and no credentials, on a machine that has none either."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xenkiln.clouds import euca2ools_ini

PREFIXES = ("EC2_", "AWS_", "EUCA", "S3_")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    (folder / ".euca").mkdir(parents=True)
    (folder / ".aws").mkdir()
    for name in list(os.environ):
        if name.startswith(PREFIXES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(euca2ools_ini, "SYSTEM_FOLDER", tmp_path / "etc")
    return folder
