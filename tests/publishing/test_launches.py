"""Whose an instance is, of which image, and with which options: nothing is started or ended on a guess."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from publishing.conftest import Begin
from xenkiln.clouds.compute import ENDED
from xenkiln.errors import BuildError, CloudError


def test_a_launch_that_was_refused_takes_nobody_elses_instance(begin: Begin) -> None:
    site = begin("2.0")
    ids = site.publish()
    with pytest.raises(CloudError, match=r"nosuch\.type"):
        site.launch(instance_type="nosuch.type")
    other = site.target.compute.run(ids["root"], {"KernelId": ids["kernel"]})
    site.terminate()
    assert site.launch() != other.id


def test_an_instance_that_was_there_before_is_not_taken_for_a_lost_one(begin: Begin) -> None:
    site = begin("2.0")
    ids = site.publish()
    other = site.target.compute.run(ids["root"], {"KernelId": ids["kernel"]})
    site.records.write("instance", {"image": ids["root"], "asked": "1", "others": other.id}, "asked")
    assert site.launch() != other.id


def test_options_that_a_running_instance_has_not_are_refused(begin: Begin) -> None:
    site = begin("4.4")
    ids = site.publish()
    known = site.launch(instance_type="m1.large")
    assert site.launch() == site.launch(instance_type="m1.large") == known
    with pytest.raises(BuildError, match=r"running: it was started with instance_type m1.large; asked for is kernel"
                       r" eki-\w+\n.*doit terminate:tiny cloud=mine"):  # fmt: skip
        site.launch(kernel=ids["kernel"])
    assert site.target.compute.find_instance(known)


def test_an_instance_of_an_earlier_image_is_not_taken_for_the_new_one(begin: Begin) -> None:
    site = begin("2.0")
    first = site.publish()["root"]
    known = site.launch()
    site.change("root.img", b"another")
    second = site.publish()["root"]
    with pytest.raises(BuildError, match=rf"running: it runs {first}, an earlier image; published is {second}\n.*"
                       r"doit terminate:tiny cloud=mine, then launch it again"):  # fmt: skip
        site.launch()
    site.terminate()
    assert site.launch() != known


def test_a_launch_that_was_cut_off_before_the_image_changed_can_be_ended(begin: Begin) -> None:
    site = begin("2.0")
    ids = site.publish()
    lost = site.target.compute.run(ids["root"], {"KernelId": ids["kernel"]})
    site.records.write("instance", {"image": ids["root"], "asked": f"{time.time():.0f}", "others": ""}, "asked")
    with pytest.raises(CloudError, match=rf"{lost.id} may be its[\s\S]*doit launch:tiny cloud=mine takes it over"):
        site.deregister()
    site.change("root.img", b"another")
    site.publish()
    with pytest.raises(BuildError, match=rf"{lost.id} is \w+: it runs {ids['root']}, an earlier image"):
        site.launch(instance_type="nosuch.type")
    site.terminate()
    found = site.target.compute.find_instance(lost.id)
    assert found is None or found.state in ENDED


def test_others_of_the_same_image_are_told(begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    site = begin("2.0")
    ids = site.publish()
    other = site.target.compute.run(ids["root"], {"KernelId": ids["kernel"]})
    assert site.launch() != other.id
    assert f"of the same image run, started by somebody else: {other.id}" in capsys.readouterr().out


def test_a_console_lacks_what_is_expected(begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    site = begin("2.0")
    site.publish()
    known = site.launch()
    expecting = replace(site, subject=replace(site.subject, expected=("no such text",), boot_seconds=1))
    with pytest.raises(BuildError, match=rf"{known}: not seen in \d+ s: no such text"):
        expecting.console()
    assert "root=/dev/xvda1" in capsys.readouterr().out


def test_the_console_of_an_instance_that_has_ended_is_still_there(
    begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    site = begin("2.0")
    site.publish()
    known = site.launch()
    capsys.readouterr()
    site.console()
    said = capsys.readouterr().out
    site.target.compute.terminate(known)
    site.console()
    assert capsys.readouterr().out == said


def test_what_may_be_of_a_lost_launch_is_not_ended(begin: Begin) -> None:
    site = begin("2.0")
    ids = site.publish()
    other = site.target.compute.run(ids["root"], {"KernelId": ids["kernel"]})
    site.records.write("instance", {"image": ids["root"], "asked": "1"}, "asked")
    with pytest.raises(CloudError, match=rf"{other.id} may be its[\s\S]*doit launch:tiny cloud=mine takes it over"):
        site.terminate()
    assert site.launch() == other.id


