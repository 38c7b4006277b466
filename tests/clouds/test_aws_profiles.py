"""Profiles of AWS as botocore reads them, and what is said where they give nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clouds.telling import list_told
from xenkiln.clouds.access import Access, find_access
from xenkiln.clouds.connection import connect
from xenkiln.clouds.credentials import find_credentials
from xenkiln.clouds.dialects import DIALECTS
from xenkiln.errors import HostError
from xenkiln.model.cloud import CloudCredentials, CloudRecipe, DialectName

SECRET = "NobodyMaySeeThis"
KEYS = f"[{{0}}]\naws_access_key_id = Of{{0}}\naws_secret_access_key = {SECRET}\n"
FOREIGN = {"AWS_ACCESS_KEY_ID": "Foreign", "AWS_SECRET_ACCESS_KEY": "ForeignSecret",
           "AWS_SESSION_TOKEN": "ForeignToken", "AWS_DEFAULT_REGION": "foreign-1", "EC2_URL": "http://x"}  # fmt: skip


def make_recipe(profile: str | None, dialect: DialectName = "amazon", **more: str) -> CloudRecipe:
    return CloudRecipe.model_validate({"summary": "A", "dialect": dialect, **more,
                                       "credentials": CloudCredentials(profile=profile)})  # fmt: skip


def put(home: Path, credentials: str = "", config: str = "") -> None:
    (home / ".aws/credentials").write_text(credentials)
    (home / ".aws/config").write_text(config)


def test_a_profile_counts_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home, KEYS.format("one") + "aws_session_token = t\n", "[profile one]\nregion = eu-west-1\n")
    for name, value in FOREIGN.items():
        monkeypatch.setenv(name, value)
    expected = Access("Ofone", SECRET, "t", "", "", "eu-west-1", True, "the profile one of AWS")
    assert find_access(make_recipe("one"), FOREIGN, "a.yaml") == expected
    assert find_access(make_recipe("one", aws_region="us-east-2"), FOREIGN, "a.yaml").region == "us-east-2"


def test_without_one_the_environment_counts_and_then_the_profile_it_names(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home, KEYS.format("one") + KEYS.format("default"), "[default]\nregion = eu-west-1\n")
    recipe = make_recipe(None)
    expected = Access("Foreign", "ForeignSecret", "ForeignToken", "", "", "foreign-1", True, "the environment")
    assert find_access(recipe, FOREIGN, "a.yaml") == expected
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OfProcess")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "OfProcess")
    assert find_access(recipe, {"EC2_ACCESS_KEY": "e", "EC2_SECRET_KEY": "e"}, "a.yaml").access_key == "Ofdefault"
    named = {"AWS_PROFILE": "one", "AWS_REGION": "us-east-1"}
    access = find_access(recipe, named, "a.yaml")
    assert (access.access_key, access.region) == ("Ofone", "us-east-1")


def test_files_are_where_the_environment_says(home: Path) -> None:
    (home / "elsewhere").write_text(KEYS.format("one"))
    (home / "settings").write_text("[profile one]\nregion = eu-west-1\n")
    environment = {"AWS_SHARED_CREDENTIALS_FILE": str(home / "elsewhere"), "AWS_CONFIG_FILE": str(home / "settings")}
    assert find_access(make_recipe("one"), environment, "a.yaml").access_key == "Ofone"


def test_a_process_gives_keys(home: Path) -> None:
    answer = {"Version": 1, "AccessKeyId": "OfProcess", "SecretAccessKey": SECRET, "SessionToken": "t"}
    (home / "answer").write_text(json.dumps(answer))
    put(home, config=f"[profile one]\nregion = eu-west-1\ncredential_process = cat {home}/answer\n")
    access = find_access(make_recipe("one"), {}, "a.yaml")
    assert (access.access_key, access.secret_key, access.token) == ("OfProcess", SECRET, "t")


def test_a_eucalyptus_can_be_a_profile_too(home: Path) -> None:
    put(home, KEYS.format("one"), "[profile one]\nregion = cloud.example.org\nendpoint_url = http://both\n"
        "services = mine\n[services mine]\ns3 =\n  endpoint_url = http://s3/\n")  # fmt: skip
    access = find_access(make_recipe("one", "eucalyptus-5"), {}, "a.yaml")
    assert (access.ec2_url, access.s3_url, access.region) == ("http://both", "http://s3", "eucalyptus")
    with pytest.raises(HostError, match="there is no private key for bundles in the profile one of AWS"):
        find_credentials({}, make_recipe("one", "eucalyptus-5"))


@pytest.mark.parametrize(("credentials", "config", "fact"), [
    ("", "", r"a\.yaml: credentials\.profile: one: gives no credentials: The config profile \(one\) could not"),
    ("", "[profile one]\n", r"(?s)aws_access_key_id is not set for the profile one of AWS, in .*aws_secret_access_key"),
    (KEYS.format("one"), "", "region is not set for the profile one of AWS"),
    (KEYS.format("one"), "[profile one]\nregion = no_region", "region of the profile one of AWS: is no region of Amaz"),
    (f"[one]\naws_access_key_id = {SECRET}", "", "Partial credentials found"),
    (f"[one\n{SECRET}", "", "gives no credentials: Unable to parse config file"),
    (f"{SECRET} = {SECRET}", "", "gives no credentials: Unable to parse config file"),
    ("", f"[profile one]\ncredential_process = echo {SECRET}", "its answer make no sense"),
    ("", f"[profile one]\ncredential_process = sh -c 'echo {SECRET} >&2; exit 1'", "gives no credentials: Credential"),
    ("", "[profile one]\ncredential_process = /nowhere/program", r"make no sense \(FileNotFoundError\)"),
    ("", f"[profile one]\ncredential_process = echo '{{\"Version\": 1, \"SecretAccessKey\": \"{SECRET}\"}}'", "no cre"),
    ("", "[profile one]\nrole_arn = x\nsource_profile = two", "gives no credentials: InvalidConfigError"),
    ("", "[profile one]\nregion = eu-west-1\nca_bundle = /nowhere\n" + KEYS.format("x"), "aws_access_key_id is not"),
])  # fmt: skip
def test_what_gives_nothing_is_named_without_secrets(
    credentials: str, config: str, fact: str, home: Path, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    put(home, credentials, config)
    with pytest.raises(HostError, match=fact) as caught:
        find_access(make_recipe("one"), {}, "a.yaml")
    assert not [text for text in list_told(caught, caplog, capfd) if SECRET in text]


def test_without_anything_all_is_named(home: Path) -> None:
    with pytest.raises(HostError, match=r"(?s)3 things are missing.*aws_access_key_id is not set for the default"):
        find_access(make_recipe(None), {}, "a.yaml")


SERVICES = "[services mine]\nebs =\n  endpoint_url = http://of-profile:1\n"


@pytest.mark.parametrize(("more", "config", "variables", "wanted"), [
    ({}, "", {}, "https://ebs.eu-west-1.amazonaws.com"),
    ({"ec2_url": "http://ec2:1"}, "", {}, "https://ebs.eu-west-1.amazonaws.com"),
    ({"ec2_url": "http://ec2:1", "ebs_url": "http://ebs:1"}, f"services = mine\n{SERVICES}", {}, "http://ebs:1"),
    ({"ec2_url": "http://ec2:1"}, f"services = mine\n{SERVICES}", {}, "http://of-profile:1"),
    ({}, "endpoint_url = http://all:1\n", {}, "http://all:1"),
    ({}, "", {"AWS_ENDPOINT_URL_EBS": "http://variable:1"}, "http://variable:1"),
])  # fmt: skip
def test_ebs_is_where_it_is_said_to_be_and_never_at_ec2(
    more: dict[str, str], config: str, variables: dict[str, str], wanted: str, home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    put(home, KEYS.format("one"), f"[profile one]\nregion = eu-west-1\n{config}")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    access = find_access(make_recipe("one").model_copy(update=more), {}, "a.yaml")
    connection = connect("mine", DIALECTS["amazon"], access, timeout_seconds=1, threads=1)
    assert connection.make_ebs().meta.endpoint_url == wanted


def test_no_eucalyptus_has_that_service() -> None:
    with pytest.raises(ValueError, match="goes with dialect: amazon"):
        make_recipe("one", "eucalyptus-4.2", ebs_url="http://ebs:1")
