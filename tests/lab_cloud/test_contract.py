"""Each release takes a good bundle all the way: upload, register, run, console, terminate."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from bundle.by_hand import Owner
from bundle.made import bundle as make_bundle
from bundle.made import write_image

from lab_cloud.bundles import Bundle, pack_tar
from lab_cloud.client import is_id
from lab_cloud.conftest import Shared, Start
from lab_cloud.roots import make_root, obtain
from lab_cloud.running import Running, wait_for
from xenkiln.bundle import parts
from xenkiln.bundle.manifest import Description, Keys
from xenkiln.lab.cloud.faults import Fault
from xenkiln.lab.cloud.profiles import PROFILES

EVERY = pytest.mark.parametrize("profile", PROFILES)
IMAGE = os.urandom(3000) + bytes(20000) + os.urandom(9000) + bytes(100_000)


def publish_all(running: Running, folder: Path) -> dict[str, str]:
    """A kernel, a ramdisk and a root that boots with them; kind -> id."""
    ids = {}
    for kind, name in (("kernel", "vmlinuz-x"), ("ramdisk", "initrd-x")):
        words = {"kernel": "", "ramdisk": "", kind: "true"}
        bundle = Bundle(running, name, name.encode() * 999, kind, words["kernel"], words["ramdisk"])
        ids[kind] = bundle.publish(folder / kind)
    root = Bundle(running, "root", IMAGE, kernel=ids["kernel"], ramdisk=ids["ramdisk"])
    return {**ids, "machine": root.publish(folder / "machine")}


@EVERY
def test_a_good_bundle_runs(start: Start, tmp_path: Path, profile: str) -> None:
    running = start(profile)
    client = running.client
    ids = publish_all(running, tmp_path)
    assert [is_id(ids[kind], prefix) for kind, prefix in (("kernel", "eki"), ("ramdisk", "eri"), ("machine", "emi"))]
    shown = client.ec2("DescribeImages")
    assert sorted(shown.texts("imagesSet/item/imageType")) == ["kernel", "machine", "ramdisk"]
    user_data = "#!/bin/sh\n\u00e4\n"
    told = base64.b64encode(user_data.encode()).decode()
    given = {"ImageId": ids["machine"], "MinCount": "1", "MaxCount": "1", "InstanceType": "m1.large",
             "UserData": told, "Placement.AvailabilityZone": "lab"}  # fmt: skip
    reply = client.ec2("RunInstances", given)
    assert reply.code == "", reply.body
    instance = reply.text("instancesSet/item/instanceId")
    assert is_id(instance, "i")
    assert reply.text("instancesSet/item/instanceState/name") == "pending"
    assert wait_for(client, instance, "running").text("reservationSet/item/instancesSet/item/dnsName") == "10.0.2.50"
    console = base64.b64decode(client.ec2("GetConsoleOutput", InstanceId=instance).text("output")).decode()
    assert json.loads(console.splitlines()[0]) == {
        "kernel": hashlib.sha256(b"vmlinuz-x" * 999).hexdigest(),
        "ramdisk": hashlib.sha256(b"initrd-x" * 999).hexdigest(),
        "root": hashlib.sha256(IMAGE).hexdigest(),
    }
    spec = json.loads((running.cloud.folder / "instances" / instance / "spec.json").read_text())
    assert spec["arguments"] == "root=/dev/xvda1 ro console=hvc0"
    assert (spec["name"], spec["memory_mib"], spec["vcpus"]) == (instance, 512, 2)
    assert spec["meta_data"]["user-data"] == user_data
    assert spec["meta_data"]["meta-data/ami-id"] == ids["machine"]
    assert "meta-data/local-ipv4" not in spec["meta_data"]
    put_together = Path(spec["root"])
    assert put_together.stat().st_blocks * 512 <= 5 * 4096
    ended = client.ec2("TerminateInstances", {"InstanceId.1": instance})
    assert ended.text("instancesSet/item/currentState/name") == "shutting-down"
    wait_for(client, instance, "terminated")
    assert client.ec2("GetConsoleOutput", InstanceId=instance).text("output")
    assert client.ec2("DeregisterImage", ImageId=ids["machine"]).code == ""
    assert not put_together.exists()
    assert client.ec2("RunInstances", given).code == "InvalidAMIID.NotFound"


@EVERY
@pytest.mark.parametrize("kind", ["plain", "sparse"])
def test_what_the_product_bundles_is_taken(
    shared: Shared, tmp_path: Path, profile: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 8192)
    running = shared(profile)
    image = write_image(tmp_path / "disk.img", 300_000, [(0, 5000), (65536, 20000)])
    stem = f"euca2-admin-{running.cloud.account.mark}"
    user = Owner(running.credentials / f"{stem}-pk.pem", running.credentials / f"{stem}-cert.pem")
    cloud = Owner(running.cloud.folder / "cloud/cloud-pk.pem", running.credentials / "cloud-cert.pem")
    description = Description(f"vmlinuz-{kind}", running.cloud.account.number, "kernel", "x86_64")
    keys = Keys(cloud.key.public_key(), user.key)
    manifest = make_bundle(image, tmp_path / "made", keys, kind, description=description)
    client = running.client
    client.s3("PUT", "/images")
    for path in manifest.parent.iterdir():
        assert client.s3("PUT", f"/images/{path.name}", path.read_bytes(), x_amz_acl="aws-exec-read").code == ""
    made = client.ec2("RegisterImage", ImageLocation=f"images/{manifest.name}").text("imageId")
    assert is_id(made, "eki")
    if profile == "1.4" and kind == "sparse":
        with pytest.raises(Fault, match="type 'S'"):
            obtain(running, made)
    else:
        assert obtain(running, made).read_bytes() == image.read_bytes()


@pytest.mark.parametrize("words", [["--format=gnu", "-S"], ["--format=pax"], ["--format=ustar"]])
def test_any_tar_is_taken_from_1_5_on(shared: Shared, tmp_path: Path, words: list[str]) -> None:
    running = shared("2.0")

    def archive(folder: Path, name: str) -> bytes:
        os.truncate(folder / name, len(IMAGE))
        os.truncate(folder / name, 1 << 20)
        return pack_tar(*words)(folder, name)

    image = Bundle(running, "vmlinuz-holes", IMAGE + bytes((1 << 20) - len(IMAGE)), archive=archive).publish(tmp_path)
    assert obtain(running, image).read_bytes() == IMAGE + bytes((1 << 20) - len(IMAGE))


@pytest.mark.parametrize("size", [0, 1, 512, 65535, (1 << 20) + 1])
@pytest.mark.parametrize("profile", ["1.4", "2.0"])
def test_images_of_any_size(shared: Shared, tmp_path: Path, profile: str, size: int) -> None:
    running = shared(profile)
    image = os.urandom(size // 3) + bytes(size - size // 3)
    assert obtain(running, Bundle(running, f"vmlinuz-{size}", image).publish(tmp_path)).read_bytes() == image


def test_boto3_publishes_and_launches(start: Start, tmp_path: Path) -> None:
    """What the product's own client library makes of the answers; parameters are checked by boto3 itself."""
    running = start("4.4")
    client = running.client
    boto = boto3.client(
        "ec2", endpoint_url=f"http://{client.host}{client.compute}", region_name="any",
        aws_access_key_id=client.keys.access, aws_secret_access_key=client.keys.secret,
        config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip
    root = make_root(running, tmp_path)
    location = root.upload(root.sign())
    image = boto.register_image(ImageLocation=location, Name="tiny", Description="of boto3")["ImageId"]
    shown = boto.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": ["tiny"]}])["Images"][0]
    assert (shown["ImageId"], shown["ImageLocation"], shown["KernelId"]) == (image, location, root.kernel)
    assert (shown["Public"], shown["State"], shown["RootDeviceName"]) == (False, "available", "/dev/xvda1")
    boto.create_tags(Resources=[image], Tags=[{"Key": "recipe", "Value": "tiny"}])
    boto.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"Group": "all"}]})
    shown = boto.describe_images(ImageIds=[image])["Images"][0]
    assert (shown["Public"], shown["Tags"]) == (True, [{"Key": "recipe", "Value": "tiny"}])
    made = boto.run_instances(ImageId=image, MinCount=1, MaxCount=1, UserData="#!/bin/sh\n", InstanceType="m1.small")
    instance = made["Instances"][0]["InstanceId"]
    assert made["Instances"][0]["State"] == {"Code": 0, "Name": "pending"}
    wait_for(client, instance, "running")
    found = boto.describe_instances(InstanceIds=[instance])["Reservations"][0]
    assert found["OwnerId"] == running.cloud.account.number
    assert found["Instances"][0]["PublicIpAddress"] == "10.0.2.50"
    assert {"Key": "ssh", "Value": "127.0.0.1:2222"} in found["Instances"][0]["Tags"]
    console = boto.get_console_output(InstanceId=instance)["Output"]
    assert "root=/dev/xvda1 ro console=hvc0" in console  # boto3 has decoded it
    ended = boto.terminate_instances(InstanceIds=[instance])["TerminatingInstances"][0]
    assert (ended["PreviousState"]["Name"], ended["CurrentState"]["Name"]) == ("running", "shutting-down")
    boto.deregister_image(ImageId=image)
