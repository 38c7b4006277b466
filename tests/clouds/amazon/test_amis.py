"""Images over a snapshot: registered once, confirmed after that, and taken away with their snapshot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clouds.amazon.strict_ebs import StrictAmazon
from clouds.amazon.uploading import BLOCK, IMPATIENT, TAGS, upload, write_image
from xenkiln.clouds.amis import Ami, deregister_ami, find_ami, register_ami
from xenkiln.errors import BuildError, CloudError

MARKED = TAGS | {"made-by": "xenkiln"}


@pytest.fixture
def ami(clients: tuple[Any, Any], tmp_path: Path) -> Ami:
    """Over a snapshot that is there."""
    snapshot_id = upload(clients, write_image(tmp_path / "root.img", BLOCK, [(0, 1)]))
    return Ami("tiny 0123", "an image", "x86_64", "hvm", snapshot_id, tags=TAGS)


def register(clients: tuple[Any, Any], ami: Ami) -> str:
    return register_ami(clients[1], ami, tell=lambda _: None, patience=IMPATIENT)


def deregister(clients: tuple[Any, Any], ami_id: str, snapshot_id: str | None = None) -> list[str]:
    return deregister_ami(clients[1], ami_id, snapshot_id=snapshot_id, tell=lambda _: None, patience=IMPATIENT)


@pytest.mark.parametrize(
    ("changes", "form"),
    [
        ({}, {"VirtualizationType": "hvm", "Architecture": "x86_64", "RootDeviceName": "/dev/xvda"}),
        ({"boot_mode": "uefi-preferred", "has_ena": True}, {"BootMode": "uefi-preferred", "EnaSupport": "true"}),
        ({"arch": "i386", "virtualization": "paravirtual", "kernel_id": "aki-880531cd", "root_device": "/dev/sda1"},
         {"VirtualizationType": "paravirtual", "Architecture": "i386", "KernelId": "aki-880531cd",
          "RootDeviceName": "/dev/sda1", "BlockDeviceMapping.1.DeviceName": "/dev/sda1"}),
    ],
    ids=["hvm", "hvm with everything", "paravirtual"],
)  # fmt: skip
def test_an_image_is_registered_as_it_is_meant(
    changes: dict[str, Any], form: dict[str, str], amazon: StrictAmazon, clients: tuple[Any, Any], ami: Ami
) -> None:
    ami_id = register(clients, replace(ami, **changes))
    image = amazon.images[ami_id]
    assert form.items() <= image.form.items()
    assert image.form["BlockDeviceMapping.1.Ebs.DeleteOnTermination"] == "true"
    assert (image.tags, image.state) == (MARKED, "available")
    assert {"BootMode", "KernelId", "EnaSupport", "SriovNetSupport"} & image.form.keys() <= form.keys()


@pytest.mark.parametrize("takes_tags", [True, False])
def test_it_is_registered_once_and_has_its_tags_wherever_they_are_taken(
    takes_tags: bool, amazon: StrictAmazon, clients: tuple[Any, Any], ami: Ami
) -> None:
    amazon.takes_tags_with_image = takes_tags
    ami_id = register(clients, ami)
    assert register(clients, ami) == ami_id
    assert find_ami(clients[1], ami.name, TAGS, IMPATIENT) == ami_id
    assert find_ami(clients[1], ami.name, TAGS | {"lock": "other"}, IMPATIENT) is None
    assert amazon.images.keys() == {ami_id}
    assert amazon.images[ami_id].tags == MARKED


@pytest.mark.parametrize("fault", ["500", "throttled", "cut", "lost"])
@pytest.mark.parametrize("operation", ["RegisterImage", "DescribeImages"])
def test_a_call_that_fails_or_is_not_heard_of_leaves_one_image(
    operation: str, fault: str, amazon: StrictAmazon, clients: tuple[Any, Any], ami: Ami
) -> None:
    amazon.choose_fault = lambda name, count: fault if name == operation and count == 0 else None
    assert amazon.images.keys() == {register(clients, ami)}


@pytest.mark.parametrize(
    ("changes", "what"),
    [({"tags": {"lock": "other"}, "snapshot_id": "snap-2"}, ""), ({"arch": "i386"}, " (Architecture x86_64)"),
     ({"boot_mode": "uefi"}, " (BootMode legacy-bios)"),
     ({"virtualization": "paravirtual", "kernel_id": "aki-1", "boot_mode": None}, " (VirtualizationType hvm)")],
    ids=["digest", "architecture", "boot mode", "virtualization"],
)  # fmt: skip
def test_a_name_that_another_image_has_is_refused(
    changes: dict[str, Any], what: str, amazon: StrictAmazon, clients: tuple[Any, Any], ami: Ami
) -> None:
    ami = replace(ami, boot_mode="legacy-bios")
    ami_id = register(clients, ami)
    with pytest.raises(CloudError) as caught:
        register(clients, replace(ami, **changes))
    assert caught.value.fact == f"{ami_id} has this name already, and is another image{what}"
    assert caught.value.next_step == "choose another name, or deregister that one"
    assert amazon.images.keys() == {ami_id}


@pytest.mark.parametrize(
    ("changes", "fact"),
    [({"name": "a/b:c"}, "a name has"), ({"name": "ab"}, "a name has"), ({"description": "x" * 256}, "a description"),
     ({"kernel_id": "aki-1"}, "takes no kernel"), ({"virtualization": "paravirtual"}, "needs a kernel"),
     ({"virtualization": "paravirtual", "kernel_id": "aki-1", "boot_mode": "uefi"}, "no boot mode"),
     ({"virtualization": "paravirtual", "kernel_id": "aki-1", "has_ena": True}, "unreachable"),
     ({"tags": {"aws:a": "b"}}, "a tag")],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_asked(
    changes: dict[str, Any], fact: str, amazon: StrictAmazon, clients: tuple[Any, Any], ami: Ami
) -> None:
    amazon.requests.clear()
    with pytest.raises(BuildError, match=fact):
        register(clients, replace(ami, **changes))
    assert amazon.requests == []


def test_an_image_that_fails_at_the_cloud_is_said_so(
    amazon: StrictAmazon, clients: tuple[Any, Any], ami: Ami
) -> None:
    def fail(operation: str, count: int) -> None:
        if operation == "DescribeImages" and count == 1:
            (image,) = amazon.images.values()
            image.state = "failed"

    amazon.choose_fault = fail
    with pytest.raises(CloudError, match="the image is failed"):
        register(clients, ami)


def test_an_image_goes_with_its_snapshot(amazon: StrictAmazon, clients: tuple[Any, Any], ami: Ami) -> None:
    ami_id = register(clients, ami)
    assert deregister(clients, ami_id) == [ami.snapshot_id]
    assert (amazon.images, amazon.snapshots) == ({}, {})
    assert deregister(clients, ami_id, ami.snapshot_id) == []


def test_a_run_that_ended_between_image_and_snapshot_leaves_nothing_at_last(
    amazon: StrictAmazon, clients: tuple[Any, Any], ami: Ami
) -> None:
    ami_id = register(clients, ami)
    amazon.choose_fault = lambda operation, _count: "denied" if operation == "DeleteSnapshot" else None
    with pytest.raises(CloudError, match="AccessDenied"):
        deregister(clients, ami_id)
    assert (list(amazon.images), list(amazon.snapshots)) == ([], [ami.snapshot_id])
    amazon.choose_fault = lambda _operation, _count: None
    assert deregister(clients, ami_id, ami.snapshot_id) == [ami.snapshot_id]
    assert amazon.snapshots == {}


def test_a_snapshot_that_is_not_ours_stays(amazon: StrictAmazon, clients: tuple[Any, Any], ami: Ami) -> None:
    ami_id = register(clients, ami)
    amazon.snapshots[ami.snapshot_id].tags["made-by"] = "somebody"
    assert deregister(clients, ami_id) == []
    assert (list(amazon.images), list(amazon.snapshots)) == ([], [ami.snapshot_id])


def test_a_snapshot_that_another_image_is_made_of_stays(
    amazon: StrictAmazon, clients: tuple[Any, Any], ami: Ami
) -> None:
    first, second = register(clients, ami), register(clients, replace(ami, name="tiny 4567"))
    assert deregister(clients, first) == []
    assert (list(amazon.images), list(amazon.snapshots)) == ([second], [ami.snapshot_id])
    assert deregister(clients, second) == [ami.snapshot_id]
