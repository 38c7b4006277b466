"""What locking leaves behind: the lock, and nothing in the build folder that would have to be swept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from xenkiln.commands import lock, sweep
from xenkiln.errors import BuildError
from xenkiln.installers.contract import Selection
from xenkiln.model.loader import LoadedImage, load_image
from xenkiln.model.packages import Package, PackagePlan
from xenkiln.system.execution import Context
from xenkiln.system.layout import PROJECT

PLAN = PackagePlan(1_700_000_000, (Package("alpha", "1.0", "amd64", "0" * 64, 1, 1, "pool/alpha.deb", "main"),))
Resolver = Callable[[Selection, Context], PackagePlan]


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedImage:
    (tmp_path / "recipes").mkdir()
    for variable in ("build", "recipes"):
        monkeypatch.setenv(f"XENKILN_{variable.upper()}", str(tmp_path / variable))
    monkeypatch.delenv("XENKILN_CACHE", raising=False)
    return load_image(PROJECT / "recipes/images/debian-12.yaml")


def answer(monkeypatch: pytest.MonkeyPatch, resolve: Resolver) -> None:
    installer = SimpleNamespace(RESOLVE_TOOLS=(), resolve_packages=resolve)
    monkeypatch.setattr(lock, "load_installer", lambda name: installer)


def resolve(selection: Selection, context: Context) -> PackagePlan:
    (context.paths.scratch("lock") / "apt-key.sh").touch()
    return PLAN


def refuse(selection: Selection, context: Context) -> PackagePlan:
    resolve(selection, context)
    raise BuildError("the mirror is down")


def test_nothing_is_left_to_sweep(
    debian: LoadedImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, resolve)
    lock.run(debian)
    assert "alpha" in (tmp_path / "recipes/debian-12.lock.yaml").read_text()
    answer(monkeypatch, refuse)
    with pytest.raises(BuildError, match="the mirror is down"):
        lock.run(debian)
    capsys.readouterr()
    sweep.run()
    assert "nothing is left over" in capsys.readouterr().out
