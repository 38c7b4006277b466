"""Who the user is: which place counts, that nothing of two places is mixed, and what is said of what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from bundle.by_hand import Owner, make_owner
from hypothesis import given
from hypothesis import strategies as st

from clouds.telling import list_told
from xenkiln.clouds.access import Access, check_url, find_access
from xenkiln.clouds.credentials import Credentials, find_credentials, find_private_key
from xenkiln.clouds.eucarc import read_eucarc
from xenkiln.clouds.settings import Problems
from xenkiln.clouds.variables import read_key_file
from xenkiln.errors import HostError
from xenkiln.model.cloud import CloudCredentials, CloudRecipe

RECIPE = CloudRecipe(summary="A", dialect="eucalyptus-2")
URLS = {"EC2_URL": "http://a:8773/services/Eucalyptus/", "S3_URL": "http://a:8773/services/Walrus"}
ENVIRONMENT = {"EC2_ACCESS_KEY": "Env", "EC2_SECRET_KEY": "EnvSecret", **URLS}


@pytest.fixture(scope="module")
def owners(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Owner]:
    folder = tmp_path_factory.mktemp("owners")
    return {name: make_owner(folder, name) for name in ("cloud", "user", "stranger")}


def render(values: Mapping[str, str]) -> str:
    return "".join(f"export {name}='{value}'\n" for name, value in values.items())


def put_eucarc(folder: Path, name: str, owners: dict[str, Owner], **more: str) -> Path:
    """All that one needs, in files of its own beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for owner in ("user", "cloud"):
        shutil.copy(owners[owner].key_file, folder / f"{owner}-pk.pem")
        shutil.copy(owners[owner].certificate_file, folder / f"{owner}-cert.pem")
    values = {
        "EC2_ACCESS_KEY": name, "EC2_SECRET_KEY": f"{name}Secret", "EC2_URL": f"http://{name.lower()}/ec2",
        "S3_URL": f"http://{name.lower()}/s3", "EC2_PRIVATE_KEY": f"{folder}/user-pk.pem",
        "EC2_CERT": f"{folder}/user-cert.pem", "EUCALYPTUS_CERT": f"{folder}/cloud-cert.pem",
        "EC2_ACCOUNT_NUMBER": "000123456789",
    } | more  # fmt: skip
    (folder / "eucarc").write_text(render(values))
    return folder / "eucarc"


def test_the_environment_counts_where_it_is_enough(home: Path, owners: dict[str, Owner]) -> None:
    put_eucarc(home / ".euca", "File", owners)
    expected = Access("Env", "EnvSecret", "", "http://a:8773/services/Eucalyptus", "http://a:8773/services/Walrus",
                      "eucalyptus", True, "the environment")  # fmt: skip
    assert find_access(RECIPE, ENVIRONMENT, "a.yaml") == expected
    # The eucarc is of another cloud: bundling may not take from it what the environment lacks.
    with pytest.raises(HostError, match=r"(?s)4 things are missing.*EC2_PRIVATE_KEY or EUCA_PRIVATE_KEY is not set"):
        find_credentials(ENVIRONMENT, RECIPE)


@pytest.mark.parametrize("lacking", ENVIRONMENT)
def test_else_the_eucarc_counts_and_nothing_of_the_environment(
    lacking: str, home: Path, owners: dict[str, Owner]
) -> None:
    path = put_eucarc(home / ".euca", "File", owners)
    environment = {name: value for name, value in ENVIRONMENT.items() if name != lacking}
    environment |= {"EUCALYPTUS_CERT": "/of/another", "EC2_CERT": "/of/another", "EC2_USER_ID": "1"}
    assert find_access(RECIPE, environment, "a.yaml") == Access(
        "File", "FileSecret", "", "http://file/ec2", "http://file/s3", "eucalyptus", True, str(path))  # fmt: skip
    assert find_credentials(environment, RECIPE).account == "000123456789"


def test_a_private_key_goes_with_the_eucarc_beside_it(home: Path, tmp_path: Path, owners: dict[str, Owner]) -> None:
    put_eucarc(home / ".euca", "Home", owners, EC2_ACCOUNT_NUMBER="000000000001")
    path = put_eucarc(tmp_path / "beside", "Beside", owners, EC2_ACCOUNT_NUMBER="000000000002")
    named = {"EC2_PRIVATE_KEY": str(path.with_name("user-pk.pem"))}
    assert find_access(RECIPE, named, "a.yaml").access_key == "Beside"
    assert find_credentials(named, RECIPE).account == "000000000002"
    assert find_private_key(named).private_numbers() == owners["user"].key.private_numbers()
    # What a sourced eucarc leaves out is filled, but not with another user's.
    sourced = {**ENVIRONMENT, **named, "EC2_ACCESS_KEY": "Beside"}
    assert find_access(RECIPE, sourced, "a.yaml").source == f"the environment and {path}"
    assert find_credentials(sourced, RECIPE).account == "000000000002"
    with pytest.raises(HostError, match=rf"EC2_CERT or EUCA_CERT is not set in the env.*, and {path} is of another"):
        find_credentials({**sourced, "EC2_ACCESS_KEY": "Other"}, RECIPE)


def test_half_of_one_pair_does_not_go_with_half_of_another(home: Path) -> None:
    two = {"EC2_ACCESS_KEY": "Half", "AWS_ACCESS_KEY_ID": "Whole", "AWS_SECRET_ACCESS_KEY": "WholeSecret", **URLS}
    assert find_access(RECIPE, two, "a.yaml").secret_key == "WholeSecret"
    both = {**two, "EC2_SECRET_KEY": "HalfSecret", "AWS_SESSION_TOKEN": "OfWhole"}
    access = find_access(RECIPE, both, "a.yaml")
    assert (access.access_key, access.token) == ("Half", "")
    assert find_access(RECIPE, {**two, "AWS_SESSION_TOKEN": "OfWhole"}, "a.yaml").token == "OfWhole"
    del two["AWS_ACCESS_KEY_ID"]
    with pytest.raises(HostError, match="EC2_SECRET_KEY or AWS_SECRET_KEY or AWS_SECRET_ACCESS_KEY is not set"):
        find_access(RECIPE, two, "a.yaml")


def test_a_credential_file_is_read(home: Path, tmp_path: Path) -> None:
    (home / "iamrc").write_text("# mine\nAWSAccessKeyId = OfFile\nAWSSecretKey=FileSecret # x\nOther\n")
    access = find_access(RECIPE, {"AWS_CREDENTIAL_FILE": "~/iamrc", **URLS}, "a.yaml")
    assert (access.access_key, access.secret_key) == ("OfFile", "FileSecret")
    with pytest.raises(HostError, match=r"AWS_CREDENTIAL_FILE=/nowhere: cannot be read: No such file"):
        find_access(RECIPE, {"AWS_CREDENTIAL_FILE": "/nowhere", **URLS}, "a.yaml")


def test_all_that_is_missing_is_told_at_once(home: Path) -> None:
    with pytest.raises(HostError) as caught:
        find_access(RECIPE, {}, "a.yaml")
    text = str(caught.value)
    assert text.startswith("credentials: 4 things are missing or wrong\n  - credentials: EC2_ACCESS_KEY or AWS_ACC")
    for name in ("EC2_ACCESS_KEY", "EC2_SECRET_KEY", "EC2_URL", "S3_URL"):
        assert name in text
    assert f"nor in {home}/.euca/eucarc, which is not there" in text
    assert "write s3_url in a.yaml" in text
    named = CloudRecipe(summary="A", dialect="eucalyptus-2", credentials=CloudCredentials(eucarc="/nowhere"))
    with pytest.raises(HostError, match=r"^a\.yaml: credentials\.eucarc: /nowhere: cannot be read: there is no such"):
        find_access(named, ENVIRONMENT, "a.yaml")


def test_the_recipe_says_where_the_cloud_is(home: Path, owners: dict[str, Owner]) -> None:
    authority = str(owners["cloud"].certificate_file)
    recipe = CloudRecipe(summary="A", dialect="eucalyptus-5", ec2_url="https://ec2.example.org/", aws_region="one",
                         s3_url="https://s3.example.org", certificates=authority)  # fmt: skip
    access = find_access(recipe, {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}, "a.yaml")
    assert access == Access("k", "s", "", "https://ec2.example.org", "https://s3.example.org", "one",
                            authority, "the environment")  # fmt: skip
    unchecked = recipe.model_copy(update={"certificates": "not checked"})
    assert find_access(unchecked, ENVIRONMENT, "a.yaml").verify is False
    for name, fact in (("/nowhere", "cannot be read: No such"), (__file__, "is no file of certificates in PEM")):
        wrong = recipe.model_copy(update={"certificates": name})
        with pytest.raises(HostError, match=rf"a\.yaml: certificates: {name}: {fact}"):
            find_access(wrong, ENVIRONMENT, "a.yaml")


@pytest.mark.parametrize(("number", "account"), [("85282682761863927252080438378529030154", "000100729354"),
                                                 ("0001-2345-6789", "000123456789")])  # fmt: skip
def test_before_3_an_account_can_be_made_of_the_users_name(
    number: str, account: str, home: Path, owners: dict[str, Owner]
) -> None:
    path = put_eucarc(home / ".euca", "File", owners, EC2_ACCOUNT_NUMBER=number,
                      EC2_PRIVATE_KEY=f"{home}/.euca/euca2-admin-5c8ee5e8-pk.pem")  # fmt: skip
    path.with_name("user-pk.pem").rename(path.with_name("euca2-admin-5c8ee5e8-pk.pem"))
    assert find_credentials({}, RECIPE).account == account
    if number.isdigit():
        newer = CloudRecipe(summary="A", dialect="eucalyptus-3.0")
        with pytest.raises(HostError, match=r"eucarc: EC2_ACCOUNT_NUMBER: an account has 12 digits, this is '8528"):
            find_credentials({}, newer)


def test_an_embedded_cloud_gets_its_own_eucarc(home: Path, tmp_path: Path, owners: dict[str, Owner]) -> None:
    path = put_eucarc(tmp_path / "lab", "Lab", owners, S3_URL="${EC2_URL}/s3")
    path.write_text(path.read_text().replace("'", "").replace("export EC2_URL=http://lab/ec2\n", ""))
    embedded = CloudRecipe(summary="A", dialect="eucalyptus-4.2", embedded=True)
    placed = embedded.model_copy(update={"credentials": CloudCredentials(eucarc=str(path))})
    # An eucarc that builds on another one's variables would mix the two.
    with pytest.raises(HostError, match=r"(?s)EC2_URL is not set in .*/lab/eucarc.*S3_URL: does not begin with http"):
        find_access(placed, ENVIRONMENT, "lab.yaml")
    put_eucarc(tmp_path / "lab", "Lab", owners)
    assert find_access(placed, ENVIRONMENT, "lab.yaml").access_key == "Lab"
    assert find_credentials(ENVIRONMENT, placed, "lab.yaml").account == "000123456789"


def test_files_that_others_can_read_are_told_once(
    home: Path, owners: dict[str, Owner], capsys: pytest.CaptureFixture[str]
) -> None:
    path = put_eucarc(home / ".euca", "File", owners)
    path.chmod(0o644)
    for _ in range(2):
        find_credentials({}, RECIPE)
    assert capsys.readouterr().out == f"credentials  {path} can be read by others: chmod 600 {path}\n"


@pytest.mark.parametrize(("url", "expected"), [
    ("http://10.0.0.1:8773/services/Walrus/", "http://10.0.0.1:8773/services/Walrus"), ("HTTPS://S3", "https://S3"),
    ("http://[::1]:8773/x//", "http://[::1]:8773/x"), ("https://s3.example.org", "https://s3.example.org"),
])  # fmt: skip
def test_urls_keep_their_path(url: str, expected: str) -> None:
    assert check_url(url, "EC2_URL") == expected


@pytest.mark.parametrize(("url", "fact"), [
    ("10.0.0.1:8773/services/Walrus", "does not begin with http"), ("ftp://x", "does not begin with http"),
    ("http://", "has no host"), ("http://x:y/", "is no URL"), ("http://[::1", "is no URL"), ("", "does not begin"),
    ("http://user:hidden@x/", "has a user name or a password in it"), ("http://@x/", "has a user name or a pass"),
    ("http://x/?key=hidden", "has something after its path"), ("http://x/#hidden", "has something after its path"),
    ("http://x/a hidden", "has no host, or a character"), ("http://x y/", "has no host, or a character"),
    ("http://x:99999/", "is no URL"),
])  # fmt: skip
def test_urls_that_are_none_are_refused_unseen(url: str, fact: str) -> None:
    with pytest.raises(HostError, match=rf"^EC2_URL: {fact}") as caught:
        check_url(url, "EC2_URL")
    assert "hidden" not in str(caught.value)


@given(st.one_of(st.text(), st.text("htps:/@?#[]%.0aé \n\t", max_size=20).map("http://{}".format)))
def test_any_text_gives_a_url_or_a_plain_error(text: str) -> None:
    problems = Problems()
    url = problems.attempt(lambda: check_url(text, "EC2_URL"))
    assert url is None or (url.isascii() and url.isprintable() and " " not in url)
    assert len(problems.found) == (url is None)


@given(st.one_of(st.binary(), st.text("expot=$(){}'\"\\`;#AWSccessKyId \n", max_size=40).map(str.encode)))
def test_any_file_gives_variables(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage"
    path.write_bytes(data)
    path.chmod(0o600)
    assert all(name.isidentifier() for name in read_eucarc(path, {}).values)
    assert read_key_file(path, "x").keys() <= {"access_key", "secret_key"}


SECRET = "NobodyMaySeeThis"


def find_both(environment: Mapping[str, str]) -> tuple[Access, Credentials]:
    return find_access(RECIPE, environment, "a.yaml"), find_credentials(environment, RECIPE)


WRONG: dict[str, dict[str, str]] = {
    "a secret with a blank": {"EC2_SECRET_KEY": f"{SECRET} x"},
    "a secret with a line's end": {"EC2_SECRET_KEY": f"{SECRET}\\\nx"},
    "no access key": {"EC2_ACCESS_KEY": ""},
    "a secret in the URL": {"EC2_URL": f"http://me:{SECRET}@x/"},
    "a secret for a URL": {"S3_URL": SECRET},
    "a secret for an account": {"EC2_ACCOUNT_NUMBER": SECRET},
    "no key of its own": {"EC2_PRIVATE_KEY": "/nowhere"},
    "a certificate for a key": {"EC2_PRIVATE_KEY": "CERTIFICATE"},
    "a key for a certificate": {"EC2_CERT": "KEY"},
    "no file of keys": {"EC2_SECRET_KEY": "", "EC2_ACCESS_KEY": "", "AWS_CREDENTIAL_FILE": "/nowhere"},
    "half a file of keys": {"EC2_SECRET_KEY": "", "EC2_ACCESS_KEY": "", "AWS_CREDENTIAL_FILE": "HALF"},
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("place", ["file", "environment"])
def test_no_error_shows_a_secret(
    case: str, place: str, home: Path, owners: dict[str, Owner], caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    half = home / "half"
    half.write_text(f"AWSSecretKey={SECRET}\n{SECRET}\n")
    user = owners["user"]
    named = {"KEY": str(user.key_file), "CERTIFICATE": str(user.certificate_file), "HALF": str(half)}
    more = {name: named.get(value, value) for name, value in WRONG[case].items()}
    path = put_eucarc(home / ".euca", "File", owners, **{"EC2_SECRET_KEY": SECRET} | more)
    environment: dict[str, str] = {}
    if place == "environment":
        environment = read_eucarc(path, {}).values
        path.unlink()
    with pytest.raises(HostError) as caught:
        find_both(environment)
    told = list_told(caught, caplog, capfd)
    pem = user.key_file.read_text().splitlines()[5]
    assert not [text for text in told if SECRET in text or pem in text]


def test_nothing_that_is_found_shows_a_secret(home: Path, owners: dict[str, Owner]) -> None:
    put_eucarc(home / ".euca", "File", owners, EC2_SECRET_KEY=SECRET, AWS_ACCESS_KEY="File", AWS_SESSION_TOKEN=SECRET)
    access, credentials = find_both({})
    assert (access.secret_key, access.token) == (SECRET, SECRET)
    assert SECRET not in f"{access!r} {access} {credentials!r}"
    assert str(owners["user"].key.private_numbers().d) not in repr(credentials)


@pytest.mark.parametrize("is_named", [True, False])
def test_what_only_a_shell_could_tell_is_named_with_its_line(is_named: bool, home: Path) -> None:
    path = home / ".euca" / "eucarc"
    path.write_text("HOST=$(hostname)\nexport EC2_URL=http://$HOST:8773/x\nexport S3_URL=http://s3\n"
                    "export EC2_ACCESS_KEY=a EC2_SECRET_KEY=`cat secret`\n")  # fmt: skip
    named = CloudCredentials(eucarc=str(path)) if is_named else CloudCredentials()
    recipe = RECIPE.model_copy(update={"credentials": named})
    with pytest.raises(HostError, match=r"2 things are missing or wrong") as caught:
        find_access(recipe, {}, "a.yaml")
    for line, name in ((2, "EC2_URL"), (4, "EC2_SECRET_KEY")):
        assert f"{path}: line {line}: {name}: is set to what only a shell could tell" in str(caught.value)
    assert "write the value itself there" in str(caught.value)


def test_a_folder_is_no_eucarc(tmp_path: Path) -> None:
    recipe = CloudRecipe(summary="A", dialect="eucalyptus-2", credentials=CloudCredentials(eucarc=str(tmp_path)))
    with pytest.raises(HostError, match=rf"is a folder, and no eucarc\n  next: name the file: {tmp_path}/eucarc"):
        find_access(recipe, {}, "a.yaml")
