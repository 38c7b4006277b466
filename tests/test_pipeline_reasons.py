"""Why a stage would run again, and what does not make it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pipeline_site import Site, make_site, pretend_built

from xenkiln import pipeline


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return make_site(tmp_path, monkeypatch)


def test_a_reason_names_what_was_changed(site: Site) -> None:
    assert pipeline.explain("domain", site.load(domain__memory_mib=300)) == "changed: domain.memory_mib"
    assert pipeline.explain("packages", site.load(packages__exclude=["nano"])) == "changed: packages.exclude"
    (site.recipes / "one" / "motd").write_text("another text")
    assert pipeline.explain("configure", site.load()) == "changed: file 0 (one/motd)"
    many = site.load(domain__memory_mib=300, domain__vcpus=2, domain__cap=7, domain__weight=9, domain__extra="quiet")
    assert pipeline.explain("domain", many).endswith(" and 1 more")
    paths = pipeline.paths_for(site.load())
    paths.record("filesystem").unlink()
    assert pipeline.explain("filesystem", site.load()) == "never finished"
    (paths.images / "tiny.xl.cfg").write_text("touched by someone")
    assert pipeline.explain("domain", site.load()) == "its files are not as it left them"


def test_a_finished_build_needs_its_password_only_to_be_built_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "correct horse")
    asks = {"configure__root_password": {"environment": "SECRET"}}
    pretend_built(site.load(**asks))
    monkeypatch.delenv("SECRET")
    assert site.list_stale(site.load(**asks)) == set()
    assert pipeline.find_problems(site.load(domain__memory_mib=300, **asks)) == []
    assert "SECRET" in str(pipeline.find_problems(site.load(configure__hostname="other", **asks))[0])
    monkeypatch.setenv("SECRET", "another horse")
    assert site.list_stale(site.load(**asks)) == {"configure"}


def test_a_disk_without_room_is_known_before(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=20 << 20))
    fact = "20 MiB are free"
    assert fact in "\n".join(map(str, pipeline.find_problems(site.load(packages__exclude=["nano"]))))
    assert fact not in "\n".join(map(str, pipeline.find_problems(site.load(domain__memory_mib=300))))
