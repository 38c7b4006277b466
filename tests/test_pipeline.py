"""When a stage is done again and when not, and what is said before anything is begun."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pipeline_site import FILES, Site, make_site

from xenkiln import pipeline
from xenkiln.errors import BuildError
from xenkiln.model.records import Record, dump_record, parse_record
from xenkiln.stages import domain
from xenkiln.system import mounts, tools
from xenkiln.system.layout import PROJECT
from xenkiln.system.locks import hold_lock
from xenkiln.system.steps import Do


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return make_site(tmp_path, monkeypatch)


def test_nothing_is_stale_when_nothing_changed(site: Site) -> None:
    assert site.list_stale(site.load()) == set()
    assert site.list_stale(site.load(summary="another text", default=False)) == set()


CHANGES: dict[str, tuple[object, set[str]]] = {
    "domain__memory_mib": (300, {"domain"}),
    "domain__vcpus": (2, {"domain"}),
    "domain__vifs": ([{"bridge": "xenbr1"}], {"domain"}),
    "domain__on_crash": ("preserve", {"domain"}),
    "configure__hostname": ("other", {"configure"}),
    "configure__files__0__mode": ("0600", {"configure"}),
    "configure__files__1__path": ("/etc/other", {"configure", "seal"}),
    "configure__users": ([{"name": "me", "uid": 1000}], {"configure", "seal"}),
    "configure__fetch_metadata": (False, {"configure"}),
    "configure__timezone": ("Europe/Amsterdam", {"configure"}),
    "packages__groups": (["base", "more"], {"packages", "bootstrap"}),
    "packages__exclude": (["nano"], {"packages", "bootstrap"}),
    "ramdisk__modules": (["ext4"], {"ramdisk"}),
    "signing_key": ("me@example.org", {"seal"}),
    "disks__root__size_mib": (128, {"filesystem", "configure", "seal"}),
    "disks__root__mount_options": ("noatime", {"configure"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_makes_just_those_stages_stale_that_read_it(site: Site, name: str) -> None:
    value, stale = CHANGES[name]
    assert site.list_stale(site.load(**{name: value})) == stale


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.sampled_from(sorted(CHANGES)), max_size=4))
def test_changes_together_do_what_they_do_alone(site: Site, names: set[str]) -> None:
    changed = site.load(**{name: CHANGES[name][0] for name in names})
    assert site.list_stale(changed) == set().union(*(CHANGES[name][1] for name in names))
    assert site.list_stale(site.load()) == set()


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(memory=st.integers(16, 1 << 20), hostname=st.from_regex(r"[a-z]{1,20}", fullmatch=True))
def test_only_a_real_change_counts(site: Site, memory: int, hostname: str) -> None:
    stale = {"domain"} if memory != site.data["domain"]["memory_mib"] else set()
    stale |= {"configure"} if hostname != site.data["configure"]["hostname"] else set()
    assert site.list_stale(site.load(domain__memory_mib=memory, configure__hostname=hostname)) == stale


def test_where_a_module_lies_and_a_link_leads_counts(site: Site) -> None:
    """What is copied is the tree, not only the bytes in it."""
    modules = site.recipes / "modules/1.0"
    (modules / "a").mkdir(parents=True)
    (modules / "a/x.ko").write_text("module")
    (modules / "link.ko").symlink_to("a/x.ko")
    (site.recipes / "vmlinuz").write_text("kernel")
    kernel = {"source": "files", "vmlinuz": "vmlinuz", "modules": "modules/1.0"}
    seen = []

    def note_key() -> None:
        loaded = site.load(kernel=kernel)
        inputs = pipeline.slices(loaded)["ramdisk"]
        seen.append(pipeline.list_parts("ramdisk", inputs, pipeline.paths_for(loaded)))

    note_key()
    (modules / "a/x.ko").chmod(0o777)
    note_key()
    assert seen[0] == seen[1]
    (modules / "link.ko").unlink()
    (modules / "link.ko").symlink_to("../1.0/a/x.ko")
    note_key()
    (modules / "a").rename(modules / "b")
    note_key()
    (modules / "link.ko").unlink()
    (modules / "link.ko").symlink_to("nowhere")
    note_key()
    assert all(one != other for one, other in pairwise(seen[1:]))


@pytest.mark.parametrize("name", FILES)
def test_the_content_of_every_file_of_the_recipe_counts(site: Site, name: str) -> None:
    path = site.recipes / name
    path.write_text(path.read_text() + "#")
    assert site.list_stale(site.load()) == {"configure"}
    path.write_text(FILES[name])
    os.utime(path, (1, 1))
    assert site.list_stale(site.load()) == set()


def test_a_lock_that_comes_or_changes_counts(site: Site) -> None:
    lock = site.recipes / "tiny.lock.yaml"
    lock.write_text("version: 1")
    assert site.list_stale(site.load()) == {"packages"}


def test_a_stage_is_stale_when_what_it_reads_of_an_earlier_one_is_another(site: Site) -> None:
    loaded = site.load()
    path = pipeline.paths_for(loaded).record("bootstrap")
    record = parse_record(path.read_text())
    assert record
    path.write_text(dump_record(replace(record, started=2.0)))
    assert site.list_stale(loaded) == set()
    path.write_text(dump_record(replace(record, identity="another tree")))
    assert site.list_stale(loaded) == {"configure", "ramdisk", "seal"}
    path.write_text(dump_record(replace(record, values={"identity_for_ramdisk": record.identity}, identity="other")))
    assert site.list_stale(loaded) == {"configure", "seal"}


@pytest.mark.parametrize("content", ["[" * 100_000, "{}", "null", '{"schema_version": 1}', "\xff", None],
                         ids=["deep", "empty", "null", "torn", "bytes", "folder"])  # fmt: skip
def test_what_is_no_record_counts_as_none_and_is_replaced(site: Site, content: str | None) -> None:
    loaded = site.load()
    path = pipeline.paths_for(loaded).record("domain")
    path.unlink()
    if content is None:
        (path / "more").mkdir(parents=True)
    else:
        path.write_text(content, encoding="latin-1")
    assert site.list_stale(loaded) == {"domain"}
    pipeline.run_stage("domain", loaded, lambda text: None)
    assert site.list_stale(loaded) == set()


def test_other_code_makes_everything_stale(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "code_digest", lambda: "other")
    loaded = site.load()
    assert site.list_stale(loaded) == set(pipeline.slices(loaded))


@pytest.mark.parametrize("text", [
    "", "{", "null", "[]", '"text"', "{}", '{"schema_version": 1}', '{"schema_version": 99, "kind": "domain"}',
    "\0" * 100, "\udcff",
])  # fmt: skip
def test_a_record_that_is_none_means_not_done(site: Site, text: str) -> None:
    loaded = site.load()
    pipeline.paths_for(loaded).record("bootstrap").write_bytes(text.encode(errors="surrogateescape"))
    assert site.list_stale(loaded) == {"bootstrap", "configure", "ramdisk", "seal"}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_record_is_never_a_crash(site: Site, data: st.DataObject) -> None:
    loaded = site.load()
    path = pipeline.paths_for(loaded).record("bootstrap")
    whole = json.loads(dump_record(Record("bootstrap", "tiny", "k", "i", 1.0, files={"x": (1, 2)})))
    field = data.draw(st.sampled_from(sorted(whole)))
    junk = st.one_of(st.none(), st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2),
                     st.dictionaries(st.text(max_size=3), st.integers(), max_size=2))  # fmt: skip
    whole[field] = data.draw(junk)
    text = json.dumps(whole)
    path.write_text(text[: data.draw(st.integers(0, len(text)))])
    assert "bootstrap" in site.list_stale(loaded)


@pytest.mark.parametrize("harm", ["remove", "grow", "touch"])
def test_a_file_that_is_not_as_it_was_left_means_not_done(site: Site, harm: str) -> None:
    loaded = site.load()
    path = pipeline.paths_for(loaded).images / "root.img"
    if harm == "remove":
        path.unlink()
    elif harm == "grow":
        path.write_text(path.read_text() + "more")
    else:
        os.utime(path, (5, 5))
    assert site.list_stale(loaded) == {"seal"}


def test_a_setting_put_back_after_a_kill_is_not_done(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(context: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(domain, "make_steps", lambda inputs, paths: [Do("die", die)])
    with pytest.raises(KeyboardInterrupt):
        pipeline.run_stage("domain", site.load(domain__memory_mib=300), lambda _: None)
    assert site.list_stale(site.load()) == {"domain"}


def test_a_stage_that_ran_is_current_and_leaves_no_scratch(site: Site) -> None:
    loaded = site.load(domain__memory_mib=300)
    paths = pipeline.paths_for(loaded)
    before = os.umask(0o077)
    try:
        record = pipeline.run_stage("domain", loaded, lambda _: None)
    finally:
        os.umask(before)
    assert site.list_stale(loaded) == set()
    assert [step.name for step in record.steps]
    assert not paths.scratch("domain").exists()
    assert (paths.images / "tiny.xl.cfg").stat().st_mode & 0o777 == 0o644
    pipeline.clean_stage("domain", loaded)
    assert site.list_stale(loaded) == {"domain"}
    assert not (paths.images / "tiny.xl.cfg").exists()


def test_a_stage_does_not_run_on_what_is_not_there(site: Site) -> None:
    loaded = site.load()
    pipeline.paths_for(loaded).record("configure").unlink()
    with pytest.raises(BuildError, match="next: doit build:tiny"):
        pipeline.run_stage("ramdisk", loaded, lambda _: None)


def test_everything_in_the_way_is_said_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(tools, "find_tool", lambda name: None if name in ("createrepo_c", "mke2fs") else f"/bin/{name}")
    for record in pipeline.paths_for(site.load()).work.glob("*.json"):
        record.unlink()
    repository = {"name": "far", "title": "far", "baseurls": ["http://far/"], "gpgkeys": ["/no/such/key"]}
    loaded = site.load(
        configure__root_password={"environment": "NO_SUCH_SECRET"},
        packages__repositories=[repository],
        packages__signatures="required",
    )
    (site.recipes / "one/motd").unlink()
    with hold_lock(pipeline.paths_for(loaded).lock_file, "x"):
        text = "\n".join(map(str, pipeline.find_problems(loaded)))
    for wanted in ("needs root", "createrepo_c", "mke2fs", "NO_SUCH_SECRET", "tiny.yaml:", "/no/such/key", "one/motd"):
        assert wanted in text, text
    assert text.count("NO_SUCH_SECRET") == text.count("one/motd") == 1


def test_what_is_up_to_date_needs_neither_root_nor_tools(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(tools, "find_tool", lambda name: None)
    assert pipeline.find_problems(site.load()) == []
    assert pipeline.find_problems(site.load(domain__memory_mib=300)) == []


def test_a_host_without_loop_devices_is_known_before(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(tools, "find_tool", lambda name: f"/bin/{name}")
    monkeypatch.setattr(mounts, "LOOP_CONTROL", site.recipes / "missing")
    text = "\n".join(map(str, pipeline.find_problems(site.load(configure__hostname="other"))))
    assert "no loop devices" in text


def test_what_a_family_cannot_do_is_an_error_of_the_recipe_with_its_line(site: Site) -> None:
    site.load(release="99")
    (site.recipes / "fine.yaml").write_text((PROJECT / "recipes" / "images" / "tiny.yaml").read_text())
    good, broken = pipeline.load_recipes()
    assert list(good) == ["fine"]
    line = (site.recipes / "tiny.yaml").read_text().splitlines().index("release: '99'") + 1
    assert f"tiny.yaml:{line}: release: " in str(broken["tiny"])
