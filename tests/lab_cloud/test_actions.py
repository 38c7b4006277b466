"""Key pairs, groups, addresses, tags, zones and what may be done with images."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from lab_cloud.conftest import Roots, Shared, Start
from lab_cloud.roots import register
from xenkiln.lab.cloud.profiles import PROFILES

EVERY = pytest.mark.parametrize("profile", PROFILES)
NEW = pytest.mark.parametrize("profile", ["3.4", "4.4"])


def make_key(path: Path, *words: str) -> str:
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", path, *words], check=True)
    return path.with_suffix(".pub").read_text()


@pytest.mark.parametrize("profile", ["1.4", "4.4"])
def test_a_key_pair(start: Start, tmp_path: Path, profile: str) -> None:
    running = start(profile)
    client = running.client
    made = client.ec2("CreateKeyPair", KeyName="mine")
    path = tmp_path / "key"
    path.write_text(made.text("keyMaterial"))
    path.chmod(0o600)
    public = subprocess.run(["ssh-keygen", "-y", "-f", path], check=True, capture_output=True, text=True).stdout
    kept = running.cloud.index.find("keys", "mine")
    assert kept
    assert kept["public"].split() == [*public.split()[:2], "mine"]
    assert client.ec2("DescribeKeyPairs").text("keySet/item/keyFingerprint") == made.text("keyFingerprint")
    assert client.ec2("CreateKeyPair", KeyName="mine").code == "InvalidKeyPair.Duplicate"
    assert client.ec2("DescribeKeyPairs", {"KeyName.1": "other"}).code == "InvalidKeyPair.NotFound"
    assert client.ec2("DeleteKeyPair", KeyName="mine").code == ""
    assert client.ec2("DeleteKeyPair", KeyName="mine").code == ""
    assert client.ec2("DescribeKeyPairs").texts("keySet/item/keyName") == []
    for name in ("", "x" * 256, "a\nb"):
        assert client.ec2("CreateKeyPair", KeyName=name).code in ("MissingParameter", "InvalidParameterValue")
    everything = b"".join(path.read_bytes() for path in running.cloud.folder.rglob("*") if path.is_file())
    assert made.text("keyMaterial").splitlines()[5].encode() not in everything


@NEW
def test_a_key_that_the_user_has_made(start: Start, tmp_path: Path, profile: str) -> None:
    client = start(profile).client
    for kind, words in (("rsa", ("-b", "1024")), ("ed25519", ())):
        public = make_key(tmp_path / kind, "-t", kind, *words)
        told = base64.b64encode(public.encode()).decode()
        made = client.ec2("ImportKeyPair", KeyName=kind, PublicKeyMaterial=told)
        asked = ["ssh-keygen", "-l", "-E", "md5", "-f", str(tmp_path / kind)]
        wanted = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()[1]
        assert f"MD5:{made.text('keyFingerprint')}" == wanted
        assert client.ec2("ImportKeyPair", KeyName=kind, PublicKeyMaterial=told).code == "InvalidKeyPair.Duplicate"
    for wrong in (b"", b"ssh-rsa", b"ssh-rsa AAAA", b"ssh-dss AAAA", b"ssh-rsa AAAA\nssh-rsa AAAA", b"\xff", b"-----"):
        told = base64.b64encode(wrong).decode()
        code = client.ec2("ImportKeyPair", KeyName="wrong", PublicKeyMaterial=told).code
        assert code == ("InvalidKey.Format" if wrong else "MissingParameter"), wrong
    assert client.ec2("ImportKeyPair", KeyName="wrong", PublicKeyMaterial="*").code == "InvalidKey.Format"


@EVERY
def test_a_group(shared: Shared, profile: str) -> None:
    client = shared(profile).client
    assert client.ec2("CreateSecurityGroup", GroupName="web", GroupDescription="of tests").code == ""
    assert client.ec2("CreateSecurityGroup", GroupName="web", GroupDescription="again").code == "InvalidGroup.Duplicate"
    rule = {"GroupName": "web", "IpProtocol": "tcp", "FromPort": "80", "ToPort": "88", "CidrIp": "0.0.0.0/0"}
    assert client.ec2("AuthorizeSecurityGroupIngress", rule).code == ""
    assert client.ec2("AuthorizeSecurityGroupIngress", rule).code == "InvalidPermission.Duplicate"
    shown = client.ec2("DescribeSecurityGroups", {"GroupName.1": "web"})
    assert shown.text("securityGroupInfo/item/ipPermissions/item/ipRanges/item/cidrIp") == "0.0.0.0/0"
    assert {"default", "web"} <= {*client.ec2("DescribeSecurityGroups").texts("securityGroupInfo/item/groupName")}
    for wrong in ({"CidrIp": "10.0.0.0/33"}, {"ToPort": "many"}, {"IpProtocol": "x"}, {"FromPort": "65536"}):
        assert client.ec2("AuthorizeSecurityGroupIngress", {**rule, **wrong}).code == "InvalidParameterValue"
    assert client.ec2("AuthorizeSecurityGroupIngress", {**rule, "GroupName": "no"}).code == "InvalidGroup.NotFound"
    assert client.ec2("AuthorizeSecurityGroupIngress", {"GroupName": "web"}).code == "MissingParameter"
    assert client.ec2("DeleteSecurityGroup", GroupName="web").code == ""
    assert client.ec2("DeleteSecurityGroup", GroupName="web").code == "InvalidGroup.NotFound"
    assert client.ec2("DeleteSecurityGroup", GroupName="default").code == "InvalidGroup.InUse"


@NEW
def test_rules_in_the_later_form(shared: Shared, profile: str) -> None:
    client = shared(profile).client
    made = client.ec2("CreateSecurityGroup", GroupName="later", GroupDescription="of tests").text("groupId")
    rule = {"GroupId": made, "IpPermissions.1.IpProtocol": "udp", "IpPermissions.1.FromPort": "53",
            "IpPermissions.1.ToPort": "53", "IpPermissions.1.IpRanges.1.CidrIp": "10.0.0.0/8",
            "IpPermissions.1.IpRanges.2.CidrIp": "192.0.2.0/24"}  # fmt: skip
    assert client.ec2("AuthorizeSecurityGroupIngress", rule).code == ""
    shown = client.ec2("DescribeSecurityGroups", {"GroupId.1": made})
    assert shown.texts(".//cidrIp") == ["10.0.0.0/8", "192.0.2.0/24"]


@EVERY
def test_addresses(start: Start, profile: str) -> None:
    client = start(profile).client
    first = client.ec2("AllocateAddress").text("publicIp")
    assert client.ec2("DescribeAddresses").texts("addressesSet/item/publicIp") == [first]
    assert client.ec2("AssociateAddress", PublicIp=first, InstanceId="i-0").code == "InvalidInstanceID.NotFound"
    assert client.ec2("DisassociateAddress", PublicIp=first).code == ""
    assert client.ec2("ReleaseAddress", PublicIp=first).code == ""
    assert client.ec2("ReleaseAddress", PublicIp=first).code == "InvalidAddress.NotFound"
    codes = [client.ec2("AllocateAddress").code for _ in range(15)]
    assert codes == [*[""] * 14, "AddressLimitExceeded"]


@EVERY
def test_the_zone_and_its_room(shared: Shared, profile: str) -> None:
    client = shared(profile).client
    assert client.ec2("DescribeAvailabilityZones").texts("availabilityZoneInfo/item/zoneName") == ["lab"]
    assert client.ec2("DescribeAvailabilityZones", {"ZoneName.1": "moon"}).code == "InvalidParameterValue"
    verbose = client.ec2("DescribeAvailabilityZones", {"ZoneName.1": "verbose"})
    lines = dict(zip(verbose.texts(".//zoneName"), verbose.texts(".//zoneState"), strict=True))
    free, _, most, vcpus, memory, _ = lines["|- m1.small"].split()
    assert (int(free) <= int(most), vcpus, memory) == (True, "1", str(PROFILES[profile].types[0].memory_mib))


@EVERY
def test_who_may_launch_an_image(roots: Roots, profile: str) -> None:
    root = roots(profile)
    client = root.running.client
    image = register(root, root.sign()).text("imageId")

    def is_public() -> str:
        return client.ec2("DescribeImages", {"ImageId.1": image}).text("imagesSet/item/isPublic")

    given = {"ImageId": image, "Attribute": "launchPermission", "OperationType": "add", "UserGroup.1": "all"}
    assert (is_public(), client.ec2("ModifyImageAttribute", given).code, is_public()) == ("false", "", "true")
    assert image in client.ec2("DescribeImages", {"ExecutableBy.1": "all"}).texts(".//imageId")
    if profile in ("3.4", "4.4"):
        later = {"ImageId": image, "LaunchPermission.Remove.1.Group": "all"}
        assert client.ec2("ModifyImageAttribute", later).code == ""
    else:
        assert client.ec2("ModifyImageAttribute", {**given, "OperationType": "remove"}).code == ""
    assert is_public() == "false"
    assert image not in client.ec2("DescribeImages", {"ExecutableBy.1": "all"}).texts(".//imageId")
    for change in ({"OperationType": "x"}, {"Attribute": "x"}, {"UserGroup.1": "x"}):
        assert client.ec2("ModifyImageAttribute", {**given, **change}).code == "InvalidParameterValue"
    assert client.ec2("ModifyImageAttribute", {**given, "ImageId": "emi-0"}).code == "InvalidAMIID.NotFound"


@EVERY
def test_images_are_described(roots: Roots, profile: str) -> None:
    root = roots(profile)
    client = root.running.client
    image = register(root, root.sign()).text("imageId")
    shown = client.ec2("DescribeImages", {"ImageId.1": image})
    wanted = {"imageLocation": "images/root.manifest.xml", "architecture": "x86_64", "imageType": "machine",
              "kernelId": root.kernel, "ramdiskId": root.ramdisk}  # fmt: skip
    assert {name: shown.text(f"imagesSet/item/{name}") for name in wanted} == wanted
    for owner, found in (("self", True), (root.running.cloud.account.number, True), ("000000000009", False)):
        assert (image in client.ec2("DescribeImages", {"Owner.1": owner}).texts(".//imageId")) == found
    missing = client.ec2("DescribeImages", {"ImageId.1": "emi-00000000"})
    assert missing.code == ("InvalidAMIID.NotFound" if profile in ("3.4", "4.4") else "")
    assert client.ec2("DeregisterImage", ImageId=image).code == ""
    assert client.ec2("DeregisterImage", ImageId=image).code == "InvalidAMIID.NotFound"
    assert image not in client.ec2("DescribeImages").texts(".//imageId")


@NEW
def test_tags_and_filters(roots: Roots, profile: str) -> None:
    root = roots(profile)
    client = root.running.client
    image = register(root, root.sign()).text("imageId")
    tags = {"ResourceId.1": image, "Tag.1.Key": "recipe", "Tag.1.Value": "tiny & co", "Tag.2.Key": "empty"}
    assert client.ec2("CreateTags", tags).code == ""
    shown = client.ec2("DescribeTags", {"Filter.1.Name": "resource-id", "Filter.1.Value.1": image})
    assert shown.texts("tagSet/item/key") == ["recipe", "empty"]

    def find(*filters: tuple[str, str]) -> list[str]:
        given: dict[str, str] = {}
        for number, (name, value) in enumerate(filters, 1):
            given |= {f"Filter.{number}.Name": name, f"Filter.{number}.Value.1": value}
        return client.ec2("DescribeImages", given).texts("imagesSet/item/imageId")

    assert find(("tag:recipe", "tiny*"), ("image-type", "machine")) == [image]
    assert find(("tag:recipe", "tiny & co"), ("image-type", "kernel")) == []
    assert image in find(("tag-key", "empty"))
    unknown = {"Filter.1.Name": "colour", "Filter.1.Value.1": "x"}
    assert client.ec2("DescribeImages", unknown).code == "InvalidParameterValue"
    assert client.ec2("DescribeImages", {"Filter.1.Value.1": "x"}).code == "MissingParameter"
    assert client.ec2("DeleteTags", {"ResourceId.1": image, "Tag.1.Key": "recipe", "Tag.1.Value": "other"}).code == ""
    assert find(("tag-key", "recipe")) == [image]
    assert client.ec2("DeleteTags", {"ResourceId.1": image, "Tag.1.Key": "recipe"}).code == ""
    assert find(("tag-key", "recipe")) == []
    assert client.ec2("CreateTags", {**tags, "ResourceId.1": "emi-0"}).code == "InvalidID"
    assert client.ec2("CreateTags", {**tags, "Tag.1.Key": "aws:mine"}).code == "InvalidParameterValue"
    many = {f"Tag.{number}.Key": str(number) for number in range(1, 12)}
    assert client.ec2("CreateTags", {"ResourceId.1": image, **many}).code == "TagLimitExceeded"
    assert client.ec2("DeregisterImage", ImageId=image).code == ""
    assert client.ec2("DescribeTags", {"Filter.1.Name": "resource-id", "Filter.1.Value.1": image}).texts(".//key") == []
