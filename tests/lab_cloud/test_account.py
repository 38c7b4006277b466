"""The cloud's account: credentials in the form of each release, finished or made anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab_cloud.bundles import run
from xenkiln.clouds.credentials import find_credentials
from xenkiln.clouds.eucarc import read_eucarc
from xenkiln.lab.cloud.account import open_account, write_eucarc
from xenkiln.lab.cloud.profiles import PROFILES
from xenkiln.model.cloud import CloudCredentials, CloudRecipe, DialectName

EVERY = pytest.mark.parametrize("profile", PROFILES)


@EVERY
def test_the_credentials_are_those_of_the_release(accounts: dict[str, Path], profile: str, tmp_path: Path) -> None:
    folder = shutil.copytree(accounts[profile], tmp_path / profile)
    account = open_account(folder, PROFILES[profile])
    eucarc = write_eucarc(folder, PROFILES[profile], account, "http://127.0.0.1:1")
    told = read_eucarc(eucarc, {}).values
    new = profile == "4.4"
    assert told["S3_URL"] == f"http://127.0.0.1:1/services/{'objectstorage' if new else 'Walrus'}"
    assert told["EC2_URL"] == f"http://127.0.0.1:1/services/{'compute' if new else 'Eucalyptus'}"
    assert (told["EC2_ACCESS_KEY"], told["EC2_SECRET_KEY"]) == (account.access, account.secret)
    dialect: DialectName = "eucalyptus-1.4" if profile == "1.4" else "eucalyptus-4.2"
    credentials = CloudCredentials(eucarc=str(eucarc))
    found = find_credentials({}, CloudRecipe(summary="", dialect=dialect, credentials=credentials))
    assert found.account == account.number
    assert (account.number == "000100729354") == (profile in ("1.4", "2.0"))
    assert ("EC2_ACCOUNT_NUMBER" in told) == (profile in ("3.4", "4.4"))
    assert ("EC2_USER_ID" in eucarc.read_text()) == (profile != "1.4")
    script = f'. {eucarc}; echo "$EC2_CERT $EC2_PRIVATE_KEY $EUCALYPTUS_CERT $S3_URL $EC2_SECRET_KEY"'
    said = run(["bash", "-c", script]).decode().split()
    variables = ("EC2_CERT", "EC2_PRIVATE_KEY", "EUCALYPTUS_CERT", "S3_URL", "EC2_SECRET_KEY")
    assert said == [told[name] for name in variables]
    assert {path.stat().st_mode & 0o777 for path in eucarc.parent.iterdir()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (folder, eucarc.parent, folder / "cloud")} == {0o700}
    stem = f"euca2-admin-{account.mark}"
    names = {path.name for path in eucarc.parent.iterdir()}
    assert names == {"eucarc", "cloud-cert.pem", f"{stem}-pk.pem", f"{stem}-cert.pem"}


@pytest.mark.parametrize("left", ["nothing", "credentials alone", "a partial account"])
def test_an_account_is_finished_or_made_anew(
    tmp_path: Path, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xenkiln.lab.cloud.account.make_pair", lambda _, *paths: [path.touch() for path in paths])
    profile = PROFILES["2.0"]
    first = open_account(tmp_path, profile)
    assert open_account(tmp_path, profile) == first
    if left == "credentials alone":
        shutil.rmtree(tmp_path / "cloud")
    elif left == "a partial account":
        (tmp_path / "cloud").rename(tmp_path / "account.partial")
        shutil.rmtree(tmp_path / "credentials")
    else:
        shutil.rmtree(tmp_path / "cloud")
        shutil.rmtree(tmp_path / "credentials")
    second = open_account(tmp_path, profile)
    assert second.secret != first.secret
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cloud", "credentials"]
    assert len(list((tmp_path / "credentials").iterdir())) == 3
