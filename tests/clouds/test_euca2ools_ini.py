"""euca2ools.ini: which file, section and wildcard counts, and what is said where nothing fits."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouds.telling import list_told
from xenkiln.clouds import euca2ools_ini
from xenkiln.clouds.access import Access, find_access
from xenkiln.clouds.euca2ools_ini import Sections, list_files, look_up, parse_ini, read_ini, read_region
from xenkiln.clouds.settings import Problems, Setting
from xenkiln.errors import HostError
from xenkiln.model.cloud import CloudCredentials, CloudRecipe

WRITTEN = """\
[region cloud.example.org]
ec2-url = https://ec2.cloud.example.org:8773/
s3-url = https://s3.cloud.example.org:8773/
user = 000123456789:admin

[user 000123456789:admin]
key-id = AKIWRITTEN
secret-key = Written%(Secret)s/+
account-id = 000123456789

"""
"""As `euare-useraddkey -w -l` of euca2ools 3.4 prints it, for Eucalyptus 4.2 and later."""
GROUPS = """\
; Amazon Web Services
[region aws:*]
iam-url = use aws:us-east-1
certificate = /usr/share/cert-ec2.pem
verify-ssl = true
[region aws:us-east-1]
ec2-url = https://ec2.us-east-1.amazonaws.com/
s3-url = https://s3.amazonaws.com/ ; the oldest
[region aws:eu-west-1]
ec2-url = https://ec2.eu-west-1.amazonaws.com/
s3-url = use aws:us-east-1
user = use aws:us-east-1 owner
[region *]
certificate = ~/any.pem
"""


def put(home: Path, **files: str) -> None:
    for name, text in files.items():
        folder = euca2ools_ini.SYSTEM_FOLDER / "conf.d" if name.startswith("conf") else home / ".euca"
        path = euca2ools_ini.SYSTEM_FOLDER / "euca2ools.ini" if name == "main" else folder / f"{name}.ini"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def find(wanted: str, environment: dict[str, str] | None = None) -> Access:
    recipe = CloudRecipe(summary="A", dialect="eucalyptus-4.2", credentials=CloudCredentials(region=wanted))
    return find_access(recipe, environment or {}, "a.yaml")


def test_what_euca2ools_writes_is_enough(home: Path) -> None:
    put(home, written=WRITTEN)
    access = find("cloud.example.org", {"EC2_URL": "http://elsewhere", "AWS_ACCESS_KEY_ID": "x"})
    assert access == Access("AKIWRITTEN", "Written%(Secret)s/+", "", "https://ec2.cloud.example.org:8773",
                            "https://s3.cloud.example.org:8773", "eucalyptus", True,
                            "000123456789:admin@cloud.example.org of euca2ools.ini")  # fmt: skip
    assert read_region("cloud.example.org", "a.yaml").get("account") == "000123456789"


def test_a_later_file_counts_more_option_by_option(home: Path) -> None:
    region = "[region r]\nec2-url = http://{0}\ns3-url = http://{0}\nuser = u\n[user u]\nkey-id = {0}\nsecret-key = s"
    put(home, main=region.format("main"), conf1="[region r]\nec2-url = http://conf1\ns3-url = http://conf1",
        conf2="[region r]\nec2-url = http://conf2", b="[user u]\nkey-id = b", a="[user u]\nkey-id = a")  # fmt: skip
    put(home, ignored="")
    (euca2ools_ini.SYSTEM_FOLDER / "other.ini").write_text("[user u]\nkey-id = other")
    access = find("r")
    assert (access.ec2_url, access.s3_url, access.access_key) == ("http://conf2", "http://conf1", "b")


def test_groups_wildcards_and_references(home: Path) -> None:
    put(home, main=GROUPS)
    source = read_region("eu-west-1", "a.yaml")
    assert source.get("ec2_url") == "https://ec2.eu-west-1.amazonaws.com/"
    assert source.get("s3_url") == "https://s3.amazonaws.com/"
    assert source.get("cloud_certificate") == "/usr/share/cert-ec2.pem"
    assert source.get("verify") == "true"
    assert source.get("region") == "eu-west-1"
    assert read_region("aws:us-east-1", "a.yaml").get("region") == "us-east-1"
    put(home, own="[region mine]\nec2-url = http://mine")
    assert read_region("mine", "a.yaml").get("cloud_certificate") == "~/any.pem"


def test_another_user_than_the_regions_own(home: Path) -> None:
    put(home, written=WRITTEN, more="[user 000123456789:bob]\nkey-id = BOB\nsecret-key = s\n[global]\n"
        "default-region = cloud.example.org\n[user *]\nprivate-key = $HOME/pk.pem")  # fmt: skip
    assert find("bob@cloud.example.org").access_key == "BOB"
    assert find("bob@").access_key == "BOB"
    assert read_region("bob@", "a.yaml").get("private_key") == f"{home}/pk.pem"
    with pytest.raises(HostError, match=r"(?s)key-id in \[user eve\] is not set in .*\.ini.*secret-key in \[user eve"):
        find("eve@cloud.example.org")


@pytest.mark.parametrize(("text", "wanted", "message"), [
    (WRITTEN, "nowhere", r"a\.yaml: credentials\.region: nowhere: there is no \[region .*\n.*name one of cloud"),
    (WRITTEN, "bob@", r"default-region is not set in \[global\] of .*/only\.ini"),
    ("[region a:x]\n[region b:x]\n", "x", "'x' could be a:x or b:x"),
    ("[region x]\nec2-url = use x\n", "x", "ec2-url refers to itself"),
    ("[region x]\nec2-url = use y\n[region y]\nec2-url = use x", "x", "ec2-url refers to itself"),
    ("[region x]\nec2-url = use\n", "x", r"\[region x\] ec2-url: `use` names no section"),
    ("[region x@y]\n", "x", r"only\.ini: \[region x@y\]: a name has no @"),
    ("[region x]\nec2-url = http://x\ns3-url = http://x\n", "x", r"nor does `user` in \[region x\] name one"),
    ("[region x]\nuser = u\n[user u]\nkey-id = k\nsecret-key = s\n", "x", r"(?s)ec2-url in \[reg.*s3-url in \[reg"),
    (WRITTEN + "[region cloud.example.org]\nverify-ssl = maybe\n", "cloud.example.org", "verify-ssl: cannot be read"),
    ("key-id = x\n", "x", r"only\.ini:1: something stands before the first"),
    ("[user x]\nsecret-key\n", "x", r"only\.ini:2: is no section, setting or comment"),
])  # fmt: skip
def test_what_is_wrong_is_named(text: str, wanted: str, message: str, home: Path) -> None:
    put(home, only=text)
    with pytest.raises(HostError, match=message):
        find(wanted)


@pytest.mark.parametrize("text", ["{0}", "[user u]\n{0}", "[user u]\nkey-id = k\n[{0}", "[user {0}@x]", "[user u] {0}"])
def test_a_broken_file_is_not_shown(
    text: str, home: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "NobodyMaySeeThis"
    put(home, only=text.format(f"secret-key {secret}"))
    with pytest.raises(HostError) as caught:
        find("x")
    assert not [told for told in list_told(caught, caplog, capfd) if secret in told]


def test_an_unchecked_region_is_not_checked(home: Path) -> None:
    put(home, written=WRITTEN.replace("user =", "verify-ssl = false\nuser ="))
    assert find("cloud.example.org").verify is False


def test_files_that_are_not_there_are_said(home: Path) -> None:
    assert list_files() == []
    with pytest.raises(HostError, match=r"no \[region x\] in .*/etc or ~/\.euca, where no ini file is"):
        find("x")


NAMES = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3).map(":".join)


@given(st.sets(NAMES), st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(":".join))
def test_the_nearest_section_counts(names: set[str], wanted: str) -> None:
    sections: Sections = {name: {"o": Setting(name, name)} for name in names}
    parts = wanted.split(":")
    tried = [":".join(part if kept else "*" for part, kept in zip(parts, choice, strict=True))
             for choice in itertools.product((True, False), repeat=len(parts))]  # fmt: skip
    near = next((name for name in tried if name in names and name != "*"), None)
    longer = [name for name in names if name.endswith(f":{wanted}")]
    nearest = [name for name in longer if name.count(":") == min(each.count(":") for each in longer)]
    if near is None and len(nearest) > 1:
        with pytest.raises(HostError, match="could be"):
            look_up(sections, wanted, "o")
        return
    found = look_up(sections, wanted, "o")
    expected = near or next(iter(nearest), None) or ("*" if "*" in names else None)
    assert (found and found.section) == expected


LINES = st.lists(st.one_of(
    st.sampled_from(["[region x]", "[user x]", "[user]", "[region ]", "[global]", "[DEFAULT]", "[", "]", "secret-key",
                     "=", "user = x", "ec2-url = use x", " use", "ec2-url = use * x", "[region x:y]",
                     "[region *]", "%(x)s"]),
    st.text(max_size=12)), max_size=8).map("\n".join)  # fmt: skip


@given(LINES)
def test_garbage_gives_sections_or_a_plain_error(text: str) -> None:
    problems = Problems()
    parser = problems.attempt(lambda: parse_ini(text, "some.ini"))
    assert parser is None or all(isinstance(parser.items(section), list) for section in parser.sections())
    assert [re.match(r"some\.ini(:\d+)?: ", str(problem)) for problem in problems.found].count(None) == 0


@given(LINES, st.sampled_from(["x", "x@x", "x@", "@", "y", "*", ":", "x:y@x:y"]))
def test_garbage_gives_a_source_or_a_plain_error(
    tmp_path_factory: pytest.TempPathFactory, text: str, wanted: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.ini"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(euca2ools_ini, "list_files", lambda: [path])
        problems = Problems()
        source = problems.attempt(lambda: read_region(wanted, "a.yaml"))
    assert source.words.endswith("of euca2ools.ini") if source else problems.found[0].place
    assert read_ini([path.with_name("not there")]).unreadable
