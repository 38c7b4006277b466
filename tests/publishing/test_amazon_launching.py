"""Instances at Amazon, against moto's server: launched, listed, watched, reached by an address, ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from publishing.amazon_site import HVM, PV_GRUB, Desk
from xenkiln.commands import cloud, console, instances, keypair, launch, terminate
from xenkiln.errors import BuildError, HostError
from xenkiln.publishing.instance_types import choose_instance_type

Begin = Callable[..., Desk]


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_an_instance_is_launched_watched_and_ended(
    begin_at_amazon: Begin, moto: str, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = begin_at_amazon(HVM, moto)
    cloud.run(desk.cloud)
    assert "amazon, eu-west-1" in capsys.readouterr().out
    ami = desk.publish()
    keypair.run(desk.cloud)
    key = desk.records.folder.parent / "keys" / "xenkiln.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE KEY" in key.read_text()
    launch.check(desk.subject, desk.cloud)
    launch.run(desk.subject, desk.cloud, instance_type="t3.micro", security_groups="default")
    known = desk.records.read("instance")["id"]
    instance = desk.target.compute.find_instance(known)
    assert instance
    assert (instance.image_id, instance.kind, instance.keypair) == (ami, "t3.micro", "xenkiln")
    with pytest.raises(BuildError, match=f"{known} is running"):
        desk.deregister()
    capsys.readouterr()
    instances.run(desk.cloud)
    cloud.run(desk.cloud)
    launch.run(desk.subject, desk.cloud)
    console.run(desk.subject, desk.cloud)
    said = capsys.readouterr().out
    assert said.count(known) >= 4
    assert f"{known}  is running already" in said
    assert "Linux version" in said
    terminate.run(desk.subject, desk.cloud)
    assert f"{known} has ended" in capsys.readouterr().out
    desk.deregister()
    assert desk.target.compute.find_image(ami) is None


def test_options_reach_amazon_or_are_refused(begin_at_amazon: Begin, moto: str) -> None:
    desk = begin_at_amazon(HVM, moto)
    desk.publish()
    with pytest.raises(HostError, match="addressing is of Eucalyptus"):
        launch.run(desk.subject, desk.cloud, addressing="private")
    address = desk.target.connection.ec2.allocate_address(Domain="vpc")["PublicIp"]
    launch.run(desk.subject, desk.cloud, address=address)
    known = desk.records.read("instance")["id"]
    (found,) = desk.target.connection.ec2.describe_addresses(PublicIps=[address])["Addresses"]
    assert found["InstanceId"] == known
    terminate.run(desk.subject, desk.cloud)


def test_the_usual_type_is_one_that_starts_the_image(begin_at_amazon: Begin, moto: str) -> None:
    desk = begin_at_amazon(HVM, moto)
    desk.publish()
    with pytest.raises(HostError, match=r"m1.large runs no hvm image\n  next: take another, such as t3.micro"):
        launch.run(desk.subject, desk.cloud, instance_type="m1.large")
    launch.run(desk.subject, desk.cloud)
    instance = desk.target.compute.find_instance(desk.records.read("instance")["id"])
    assert instance
    assert instance.kind == "t3.micro"
    terminate.run(desk.subject, desk.cloud)


@pytest.mark.parametrize(("section", "usual"), [(HVM, "t3.micro"), ({**HVM, "ena": False}, "t2.micro"),
                                                (PV_GRUB, "m1.small")])  # fmt: skip
def test_the_usual_type_is_by_virtualization_and_driver(
    section: dict[str, Any], usual: str, begin_at_amazon: Begin
) -> None:
    desk = begin_at_amazon(section)
    assert choose_instance_type(desk.subject, desk.target, "") == usual
    assert choose_instance_type(desk.subject, desk.target, "m3.large") == "m3.large"
    assert choose_instance_type(replace(desk.subject, arch="i386"), desk.target, "") != "t3.micro"
