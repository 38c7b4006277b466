"""The query API: who may speak, which fields an action takes, and how answers look."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from lab_cloud.client import Client, Keys, sign_v1, sign_v2, sign_v4, stamp
from lab_cloud.conftest import Shared
from xenkiln.lab.cloud.profiles import PROFILES

EVERY = pytest.mark.parametrize("profile", PROFILES)
REGIONS = {"Action": "DescribeAvailabilityZones", "Version": "2009-04-04"}


def list_parameters(shift_seconds: float = 0, **more: str) -> dict[str, str]:
    return {**REGIONS, "Timestamp": stamp(shift_seconds), **more}


@EVERY
@pytest.mark.parametrize(
    ("signature", "codes"),
    [("1", {"1.4": "", "2.0": "", "3.4": "", "4.4": ""}),
     ("2", {"1.4": "InvalidParameterValue", "2.0": "", "3.4": "", "4.4": ""}),
     ("4", {"1.4": "MissingParameter", "2.0": "MissingParameter", "3.4": "", "4.4": ""})],
)  # fmt: skip
def test_each_release_has_its_signatures(shared: Shared, profile: str, signature: str, codes: dict[str, str]) -> None:
    client = shared(profile).client
    if signature == "1":
        reply = client.ask(sign_v1(client.keys, list_parameters()))
    elif signature == "2":
        reply = client.ask(sign_v2(client.keys, "GET", client.host, client.compute, list_parameters()))
    else:
        target = f"{client.compute}?Action=DescribeAvailabilityZones&Version=2009-04-04"
        headers = sign_v4(client.keys, "ec2", "GET", target, {"Host": client.host}, hashlib.sha256().hexdigest())
        reply = client.ask(REGIONS, headers=headers)
    assert reply.code == codes[profile], reply.body


@pytest.mark.parametrize("profile", ["2.0", "3.4", "4.4"])
def test_a_form_and_a_host_without_its_port(shared: Shared, profile: str) -> None:
    client = shared(profile).client
    for host in (client.host, "127.0.0.1"):
        signed = sign_v2(client.keys, "POST", host, client.compute, list_parameters())
        assert client.ask(signed, "POST").code == ""
    signed = sign_v2(client.keys, "POST", "127.0.0.2", client.compute, list_parameters())
    assert client.ask(signed, "POST").code == "SignatureDoesNotMatch"
    assert client.ask(sign_v1(client.keys, list_parameters()), "POST").code == ""


def test_1_4_is_asked_by_get(shared: Shared) -> None:
    client = shared("1.4").client
    assert client.ask(sign_v1(client.keys, list_parameters()), "POST").status == 405


@EVERY
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda given: given.pop("Signature"), "MissingParameter"),
        (lambda given: given.pop("SignatureVersion"), "MissingParameter"),
        (lambda given: given.pop("AWSAccessKeyId"), "MissingParameter"),
        (lambda given: given.update(AWSAccessKeyId="nobody"), "AuthFailure"),
        (lambda given: given.update(Signature="AAAA"), "SignatureDoesNotMatch"),
        (lambda given: given.update(Action="DescribeImages"), "SignatureDoesNotMatch"),
        (lambda given: given.update(More="x"), "SignatureDoesNotMatch"),
        (lambda given: given.update(SignatureVersion="9"), "InvalidParameterValue"),
    ],
)
def test_what_was_signed_is_what_is_sent(
    shared: Shared, profile: str, change: Callable[[dict[str, str]], Any], code: str
) -> None:
    client = shared(profile).client
    signed = sign_v1(client.keys, list_parameters())
    change(signed)
    assert client.ask(signed).code == code


@EVERY
@pytest.mark.parametrize(
    ("times", "code"),
    [
        ({"Timestamp": lambda: stamp(form="%Y-%m-%dT%H:%M:%S.000Z")}, ""),
        ({"Timestamp": lambda: stamp(form="%Y-%m-%dT%H:%M:%S")}, ""),
        ({"Timestamp": lambda: stamp(form="%Y-%m-%d %H:%M:%S")}, "InvalidParameterValue"),
        ({"Timestamp": "2009-02-30T00:00:00Z"}, "InvalidParameterValue"),
        ({"Timestamp": ""}, "InvalidParameterValue"),
        ({"Expires": lambda: stamp(600)}, ""),
        ({"Expires": lambda: stamp(-60)}, "RequestExpired"),
        ({}, "MissingParameter"),
        ({"Timestamp": lambda: stamp(), "Expires": lambda: stamp(60)}, "MissingParameter"),
    ],
)
def test_a_request_has_a_time(
    shared: Shared, profile: str, times: dict[str, str | Callable[[], str]], code: str
) -> None:
    client = shared(profile).client
    # Tests may be collected long before they run.
    given = {name: text if isinstance(text, str) else text() for name, text in times.items()}
    assert client.ask(sign_v1(client.keys, {**REGIONS, **given})).code == code


@pytest.mark.parametrize(("profile", "limit_seconds"), [("1.4", 300), ("2.0", 900), ("3.4", 900), ("4.4", 900)])
def test_how_far_clocks_may_be_apart(shared: Shared, profile: str, limit_seconds: int) -> None:
    client = shared(profile).client
    for sign in (1, -1):
        assert client.ask(sign_v1(client.keys, list_parameters(sign * (limit_seconds - 60)))).code == ""
        assert client.ask(sign_v1(client.keys, list_parameters(sign * (limit_seconds + 60)))).code == "RequestExpired"


@EVERY
def test_a_secret_that_is_wrong(shared: Shared, profile: str) -> None:
    client = shared(profile).client
    keys = Keys(client.keys.access, "wrong")
    assert client.ask(sign_v1(keys, list_parameters())).code == "SignatureDoesNotMatch"
    if profile != "1.4":
        signed = sign_v2(keys, "GET", client.host, client.compute, list_parameters())
        assert client.ask(signed).code == "SignatureDoesNotMatch"


def test_version_2_is_of_sha256(shared: Shared) -> None:
    client = shared("2.0").client
    signed = sign_v2(client.keys, "GET", client.host, client.compute, list_parameters())
    assert client.ask({**signed, "SignatureMethod": "HmacSHA1"}).code == "InvalidParameterValue"


@pytest.mark.parametrize(
    ("profile", "code"), [("1.4", "UnknownParameter"), ("2.0", "UnknownParameter"), ("3.4", ""), ("4.4", "")]
)
def test_fields_that_an_action_does_not_know(shared: Shared, profile: str, code: str) -> None:
    client = shared(profile).client
    for more in ({"More": "x"}, {"Filter.1.Name": "state"}, {"ZoneName": "lab"}, {"ZoneName.x": "lab"}):
        if "Filter.1.Name" in more and not code:
            continue  # there it is known
        reply = client.ec2("DescribeAvailabilityZones", more)
        assert reply.code == code
        if code:
            assert reply.message.startswith("Failed to bind the following fields:\n" + next(iter(more)))


def test_1_4_does_not_know_the_method_of_a_signature(shared: Shared) -> None:
    client = shared("1.4").client
    assert client.ask(sign_v1(client.keys, list_parameters(SignatureMethod="HmacSHA1"))).code == "UnknownParameter"
    other = shared("2.0").client
    assert other.ask(sign_v1(other.keys, list_parameters(SignatureMethod="HmacSHA1"))).code == ""


@pytest.mark.parametrize(
    ("profile", "asked", "answered"),
    [("1.4", "2016-11-15", "2008-12-01"), ("1.4", "x", "2008-12-01"), ("2.0", "2010-06-15", "2010-06-15"),
     ("3.4", "2012-03-01", "2012-03-01"), ("3.4", "2016-11-15", "2013-10-15"), ("4.4", "2014-10-01", "2014-10-01"),
     ("4.4", "2016-11-15", "2016-09-15")],
)  # fmt: skip
def test_the_namespace_of_an_answer(shared: Shared, profile: str, asked: str, answered: str) -> None:
    reply = shared(profile).client.ec2("DescribeAvailabilityZones", Version=asked)
    assert f'xmlns="http://ec2.amazonaws.com/doc/{answered}/"'.encode() in reply.body
    assert reply.text("requestId")


@pytest.mark.parametrize("profile", ["2.0", "3.4", "4.4"])
def test_a_version_is_a_date(shared: Shared, profile: str) -> None:
    assert shared(profile).client.ec2("DescribeAvailabilityZones", Version="latest").code == "InvalidParameterValue"


@EVERY
def test_requests_that_cannot_be_understood(shared: Shared, profile: str) -> None:
    client = shared(profile).client
    assert client.ec2("DescribeEverything").code == "InvalidAction"
    signed = sign_v1(client.keys, {"Action": "DescribeImages", "Timestamp": stamp()})
    assert client.ask(signed).code == "MissingParameter"
    assert client.ec2("DescribeImages", {"ImageId.1": "\x00"}).code == "MalformedQueryString"
    assert client.ask({}).code == "MissingParameter"


@pytest.mark.parametrize("profile", ["1.4", "2.0"])
def test_what_came_later_is_no_action(shared: Shared, profile: str) -> None:
    client = shared(profile).client
    for action in ("CreateTags", "DescribeTags", "ImportKeyPair"):
        assert client.ec2(action).code == "InvalidAction"
    assert client.ec2("DescribeRegions").code == ("InvalidAction" if profile == "1.4" else "")


def make_boto(client: Client, signature: str, api_version: str | None = None) -> Any:
    return boto3.client(
        "ec2", endpoint_url=f"http://{client.host}{client.compute}", region_name="eucalyptus", api_version=api_version,
        aws_access_key_id=client.keys.access, aws_secret_access_key=client.keys.secret,
        config=Config(signature_version=signature, parameter_validation=False, retries={"total_max_attempts": 1}),
    )  # fmt: skip


@pytest.mark.parametrize(("profile", "signature"), [("2.0", "v2"), ("3.4", "v2"), ("3.4", "v4"), ("4.4", "v4")])
def test_boto3_understands(shared: Shared, profile: str, signature: str) -> None:
    boto = make_boto(shared(profile).client, signature)
    name = f"boto-{signature}"
    assert [zone["ZoneName"] for zone in boto.describe_availability_zones()["AvailabilityZones"]] == ["lab"]
    verbose = boto.describe_availability_zones(ZoneNames=["verbose"])["AvailabilityZones"]
    assert [zone["ZoneName"] for zone in verbose][2] == f"|- {PROFILES[profile].types[0].name}"
    pair = boto.create_key_pair(KeyName=name)
    assert pair["KeyMaterial"].startswith("-----BEGIN RSA PRIVATE KEY-----\n")
    shown = boto.describe_key_pairs(KeyNames=[name])["KeyPairs"]
    assert [(each["KeyName"], each["KeyFingerprint"]) for each in shown] == [(name, pair["KeyFingerprint"])]
    boto.delete_key_pair(KeyName=name)
    boto.create_security_group(GroupName=name, Description="of boto3")
    boto.authorize_security_group_ingress(GroupName=name, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="10.0.0.0/8")
    group = boto.describe_security_groups(GroupNames=[name])["SecurityGroups"][0]
    assert (group["Description"], group["IpPermissions"][0]["ToPort"]) == ("of boto3", 22)
    assert group["IpPermissions"][0]["IpRanges"] == [{"CidrIp": "10.0.0.0/8"}]
    address = boto.allocate_address()["PublicIp"]
    assert address in [each["PublicIp"] for each in boto.describe_addresses()["Addresses"]]
    boto.release_address(PublicIp=address)
    boto.describe_images(Owners=["self"])
    assert isinstance(boto.describe_instances()["Reservations"], list)
    with pytest.raises(ClientError) as caught:
        boto.get_console_output(InstanceId="i-00000000")
    assert caught.value.response["Error"]["Code"] == "InvalidInstanceID.NotFound"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
