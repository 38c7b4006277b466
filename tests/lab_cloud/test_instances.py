"""Instances: what can be asked for, and how they end, whatever their programs do."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from lab_cloud.client import Client
from lab_cloud.conftest import Roots
from lab_cloud.roots import make_root, register
from lab_cloud.running import STAND_IN, Running, serve, wait_for, wait_until
from xenkiln.lab.cloud import keeper
from xenkiln.lab.cloud.index import Index
from xenkiln.lab.cloud.instance_files import INSTANCES
from xenkiln.lab.cloud.profiles import PROFILES

LONGEST = 1 << 20
EVERY = pytest.mark.parametrize("profile", PROFILES)
OF_INSTANCE = "reservationSet/item/instancesSet/item"
REASON = f"{OF_INSTANCE}/reason"
Begin = Callable[..., AbstractContextManager[Running]]


@pytest.fixture(scope="session")
def prepared(accounts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns get(profile): the folder of a cloud that has ended, with images in it."""
    made: dict[str, Path] = {}

    def get(profile: str) -> Path:
        if profile not in made:
            folder = tmp_path_factory.mktemp("prepared")
            made[profile] = shutil.copytree(accounts[profile], folder / profile)
            with serve(made[profile], profile) as running:
                root = make_root(running, folder)
                root.put(root.parts)
                assert register(root, root.sign()).code == ""
        return made[profile]

    return get


@pytest.fixture
def begin(prepared: Callable[[str], Path], tmp_path: Path) -> Begin:
    """Returns begin(profile, guest): a context with a cloud that has images; the same folder each time."""

    def open_cloud(profile: str, guest: str = "well") -> AbstractContextManager[Running]:
        folder = tmp_path / profile
        if not folder.exists():
            shutil.copytree(prepared(profile), folder)
        return serve(folder, profile, guest)

    return open_cloud


def find_machine(running: Running) -> str:
    return next(str(each["id"]) for each in running.cloud.index.list_all("images") if each["kind"] == "machine")


def find_state(client: Client, instance: str) -> str:
    return client.ec2("DescribeInstances", {"InstanceId.1": instance}).text(f"{OF_INSTANCE}/instanceState/name")


@EVERY
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ImageId": "emi-00000000"}, "InvalidAMIID.NotFound"),
        ({"ImageId": ""}, "MissingParameter"),
        ({"KernelId": "eri-00000000"}, "InvalidAMIID.NotFound"),
        ({"MinCount": "0"}, "InvalidParameterValue"),
        ({"MinCount": "2"}, "InvalidParameterValue"),
        ({"MaxCount": "x"}, "InvalidParameterValue"),
        ({"MinCount": "20", "MaxCount": "20"}, "InsufficientInstanceCapacity"),
        ({"InstanceType": "m9.huge"}, "InvalidParameterValue"),
        ({"KeyName": "none"}, "InvalidKeyPair.NotFound"),
        ({"SecurityGroup.1": "none"}, "InvalidGroup.NotFound"),
        ({"UserData": "*"}, "InvalidParameterValue"),
        ({"UserData": base64.b64encode(b"x" * ((16 << 10) + 1)).decode()}, "InvalidParameterValue"),
        ({"UserData": base64.b64encode(b"\xff").decode()}, "InvalidParameterValue"),
        ({"AddressingType": "none"}, "InvalidParameterValue"),
        ({"Placement.AvailabilityZone": "moon"}, "InvalidParameterValue"),
    ],
)
def test_what_cannot_be_run(roots: Roots, profile: str, change: dict[str, str], code: str) -> None:
    root = roots(profile)
    before = len(root.running.cloud.index.list_all(INSTANCES))
    given = {"ImageId": root.image_id, "MinCount": "1", "MaxCount": "1", **change}
    if len(given.get("UserData", "")) > (PROFILES[profile].head_bytes or LONGEST):
        code = "RequestEntityTooLarge"
    assert root.running.client.ec2("RunInstances", given, "POST" if profile != "1.4" else "GET").code == code
    assert len(root.running.cloud.index.list_all(INSTANCES)) == before


@pytest.mark.parametrize("profile", ["1.4", "2.0", "3.4"])
def test_an_image_without_a_kernel_takes_that_of_the_request(roots: Roots, profile: str) -> None:
    root = roots(profile)
    client = root.running.client
    text = f"<kernel_id>{root.kernel}</kernel_id>"
    image = register(root, root.sign(lambda manifest: manifest.replace(text, ""))).text("imageId")
    assert client.ec2("RunInstances", ImageId=image, MinCount="1", MaxCount="1").code == "MissingParameter"
    instance = client.run(image, KernelId=root.kernel)
    assert wait_for(client, instance, "running").text(f"{OF_INSTANCE}/kernelId") == root.kernel
    client.ec2("TerminateInstances", {"InstanceId.1": instance})


@pytest.mark.parametrize("profile", ["1.4", "4.4"])
def test_several_at_once_and_all_that_is_said_of_them(begin: Begin, profile: str) -> None:
    with begin(profile) as running:
        client = running.client
        client.ec2("CreateKeyPair", KeyName="mine")
        client.ec2("CreateSecurityGroup", GroupName="web", GroupDescription="of tests")
        given = {"ImageId": find_machine(running), "MinCount": "2", "MaxCount": "3", "KeyName": "mine",
                 "SecurityGroup.1": "default", "SecurityGroup.2": "web", "AddressingType": "private"}  # fmt: skip
        reply = client.ec2("RunInstances", given)
        ids = reply.texts("instancesSet/item/instanceId")
        assert reply.texts("instancesSet/item/amiLaunchIndex") == ["0", "1", "2"]
        assert reply.texts("groupSet/item/groupId") == ["default", "web"]
        for instance in ids:
            shown = wait_for(client, instance, "running")
        assert shown.text(f"{OF_INSTANCE}/dnsName") == "0.0.0.0"
        assert shown.text(f"{OF_INSTANCE}/privateDnsName") == "10.0.2.50"
        assert shown.text(f"{OF_INSTANCE}/keyName") == "mine"
        spec = json.loads((running.cloud.keeper.folder_of(ids[2]) / "spec.json").read_text())
        assert spec["public_key"].startswith("ssh-rsa ")
        told = spec["meta_data"]
        assert told["meta-data/public-keys/index"] == "0=mine"
        assert told["meta-data/public-keys/0/openssh-key"] == f"{spec['public_key']}\n"
        assert told["meta-data/ami-launch-index"] == "2"
        assert told["meta-data/security-groups"] == ("[default, web]" if profile == "1.4" else "default\nweb")
        assert "user-data" not in told
        address = client.ec2("AllocateAddress").text("publicIp")
        assert client.ec2("AssociateAddress", PublicIp=address, InstanceId=ids[0]).code == ""
        shown = client.ec2("DescribeInstances", {"InstanceId.1": ids[0]})
        assert shown.text(f"{OF_INSTANCE}/dnsName") == address
        assert client.ec2("DeleteSecurityGroup", GroupName="web").code == "InvalidGroup.InUse"
        if profile == "4.4":
            assert shown.text(f"{OF_INSTANCE}/tagSet/item/value") == "127.0.0.1:2222"
            found = client.ec2("DescribeInstances", {"Filter.1.Name": "tag:ssh", "Filter.1.Value.1": "*:2222"})
            assert sorted(found.texts(f"{OF_INSTANCE}/instanceId")) == sorted(ids)
        ended = client.ec2("TerminateInstances", {f"InstanceId.{number}": each for number, each in enumerate(ids, 1)})
        assert ended.texts("instancesSet/item/previousState/name") == ["running"] * 3
        for instance in ids:
            assert wait_for(client, instance, "terminated").text(REASON).startswith("Client.UserInitiatedShutdown")
        assert client.ec2("DescribeAddresses").text("addressesSet/item/instanceId") == ""
        again = client.ec2("TerminateInstances", {"InstanceId.1": ids[0]})
        assert again.text("instancesSet/item/currentState/name") == "terminated"


def test_a_token_launches_once(begin: Begin) -> None:
    with begin("3.4") as running:
        client = running.client
        first = client.run(find_machine(running), ClientToken="token")
        assert client.run(find_machine(running), ClientToken="token") == first
        assert client.run(find_machine(running), ClientToken="other") != first


@pytest.mark.parametrize(
    ("guest", "reason"),
    [("crashing", "Server.InternalError: its program ended with 3"),
     ("failing", "Server.InternalError: no place on the host"),
     ("leaving", "Client.InstanceInitiatedShutdown: it has shut down")],
)  # fmt: skip
def test_how_a_guest_ends_by_itself(begin: Begin, guest: str, reason: str) -> None:
    with begin("2.0", guest) as running:
        client = running.client
        instance = client.run(find_machine(running))
        assert wait_for(client, instance, "terminated").text(REASON) == reason
        console = base64.b64decode(client.ec2("GetConsoleOutput", InstanceId=instance).text("output"))
        assert b"root=/dev/xvda1" in console
        assert [path.name for path in running.cloud.keeper.folder_of(instance).iterdir()] == ["console.log"]


def test_a_guest_that_does_not_end_is_ended(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "STOP_SECONDS", 0.3)
    with begin("2.0", "stubborn") as running:
        client = running.client
        instance = client.run(find_machine(running))
        wait_for(client, instance, "running")
        client.ec2("TerminateInstances", {"InstanceId.1": instance})
        wait_for(client, instance, "terminated")


def test_one_that_is_ended_before_it_runs(begin: Begin) -> None:
    with begin("2.0") as running:
        client = running.client
        instance = client.run(find_machine(running))
        state = client.ec2("TerminateInstances", {"InstanceId.1": instance})
        assert state.text("instancesSet/item/currentState/name") == "shutting-down"
        assert "Client.UserInitiatedShutdown" in wait_for(client, instance, "terminated").text(REASON)
        assert running.cloud.count_instances() == 0


def test_an_image_stays_while_somebody_runs_it(begin: Begin) -> None:
    with begin("2.0") as running:
        client, image = running.client, find_machine(running)
        instance = client.run(image)
        wait_for(client, instance, "running")
        assert client.ec2("DeregisterImage", ImageId=image).code == ""
        kept = running.cloud.folder / "images" / image / "image"
        assert kept.exists()
        client.ec2("TerminateInstances", {"InstanceId.1": instance})
        wait_for(client, instance, "terminated")
        wait_until(lambda: not kept.exists())


@pytest.mark.parametrize("profile", ["1.4", "4.4"])
def test_instances_end_with_their_cloud(begin: Begin, profile: str) -> None:
    with begin(profile) as running:
        instance = running.client.run(find_machine(running))
        wait_for(running.client, instance, "running")
        folder = running.cloud.keeper.folder_of(instance)
    assert [path.name for path in folder.iterdir()] == ["console.log"]
    with begin(profile) as again:
        shown = again.client.ec2("DescribeInstances", {"InstanceId.1": instance})
        assert shown.text(REASON).startswith("Server.ScheduledStop")
        again.cloud.index.update(INSTANCES, instance, ended=1.0)
        missing = again.client.ec2("DescribeInstances", {"InstanceId.1": "i-00000000"})
        assert missing.code == ("InvalidInstanceID.NotFound" if profile == "4.4" else "")
        assert again.client.ec2("DescribeInstances").texts(".//instanceId") == []
        assert not folder.exists()


def test_what_a_killed_cloud_left_is_ended(begin: Begin) -> None:
    """As if it had been killed: its instance's record says running, and the program has not ended."""
    with begin("2.0") as running:
        instance = running.client.run(find_machine(running))
        wait_for(running.client, instance, "running")
        folder = running.cloud.keeper.folder_of(instance)
        record = running.cloud.index.find(INSTANCES, instance)
        spec = (folder / "spec.json").read_bytes()
    (folder / "spec.json").write_bytes(spec)
    index = Index(running.cloud.folder / "index.sqlite3")
    index.put(INSTANCES, instance, record or {})
    index.close()
    left = subprocess.Popen([sys.executable, "-I", "-S", STAND_IN, folder, "well"])
    try:
        wait_until(lambda: (folder / "status.json").exists())
        with begin("2.0") as again:
            shown = again.client.ec2("DescribeInstances", {"InstanceId.1": instance})
            assert shown.text(REASON).startswith("Server.InternalError: the cloud was killed")
            assert find_state(again.client, instance) == "terminated"
        assert left.wait(60) == 0
    finally:
        left.kill()
        left.wait()
