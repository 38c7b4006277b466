"""Accounts of every release, whose keys are made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from xenkiln.lab.cloud import account
from xenkiln.lab.cloud.profiles import PROFILES


def make_accounts(folder: Path) -> dict[str, Path]:
    """A cloud's folder for each profile that has an account and nothing else. All have the same pairs of keys."""
    made: dict[str, list[bytes]] = {}
    make_real_pair = account.make_pair

    def make_pair(name: str, *paths: Path) -> None:
        if name not in made:
            make_real_pair(name, *paths)
            made[name] = [path.read_bytes() for path in paths]
        for path, data in zip(paths, made[name], strict=True):
            path.write_bytes(data)
            path.chmod(0o600)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(account, "make_pair", make_pair)
        for name, profile in PROFILES.items():
            (folder / name).mkdir(mode=0o700)
            account.open_account(folder / name, profile)
    return {name: folder / name for name in PROFILES}
