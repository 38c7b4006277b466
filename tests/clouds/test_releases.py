"""The eucarc of each generation, as its release writes it: what bash makes of it, and what we find in it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from xenkiln.clouds.access import Access, find_access
from xenkiln.clouds.eucarc import read_eucarc
from xenkiln.clouds.variables import read_variables
from xenkiln.model.cloud import CloudCredentials, CloudRecipe, DialectName

EUCARCS = Path(__file__).parent / "eucarcs"
RELEASES = sorted(path.name for path in EUCARCS.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my keys"
    folder.mkdir()
    (folder / "iamrc").write_text("AWSAccessKeyId=OfTheFile\nAWSSecretKey=SecretOfTheFile")
    return folder


def put(release: str, folder: Path) -> Path:
    return Path(shutil.copyfile(EUCARCS / release, folder / "eucarc"))


# bash takes the blank in the folder's name for a second word, in the first line that is not quoted.
@pytest.mark.parametrize("release", RELEASES)
def test_variables_are_what_bash_makes_of_them(release: str, tmp_path: Path) -> None:
    path = put(release, tmp_path)
    words = ["bash", "-c", 'source "$0" 2>/dev/null; env -0', str(path)]
    done = subprocess.run(words, env={"HOME": "/home/me", "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, check=True)
    theirs = dict(line.decode().split("=", 1) for line in done.stdout.split(b"\0") if line)
    ours = read_eucarc(path, {"HOME": "/home/me"}).values
    exported = {line.split()[1].split("=")[0] for line in path.read_text().splitlines() if line.startswith("export ")}
    assert exported
    assert {name: ours[name] for name in exported} == {name: theirs[name] for name in exported}
    assert ours.keys() - exported <= {"EUCA_KEY_DIR", "EC2_USER_ID"}


@pytest.mark.parametrize(("release", "dialect", "account"), [
    ("1.4", "eucalyptus-1.4", "000100729354"), ("2.0", "eucalyptus-2", "85282682761863927252080438378529030154"),
    ("3.4", "eucalyptus-3.3", "000343434343"), ("4.1", "eucalyptus-4.0", "000414141414"),
    ("4.4", "eucalyptus-4.2", "000444444444"), ("5", "eucalyptus-5", "000555555555"),
])  # fmt: skip
def test_access_and_what_bundling_needs_are_found(
    release: str, dialect: DialectName, account: str, folder: Path, home: Path
) -> None:
    path = put(release, folder)
    recipe = CloudRecipe(summary="A cloud", dialect=dialect, credentials=CloudCredentials(eucarc=str(path)))
    name = {"1.4": "OneFour", "2.0": "Two", "3.4": "Three", "4.1": "FourOne", "4.4": "FourFour", "5": "Five"}[release]
    # Of another cloud, and not to be looked at.
    foreign = {"EC2_URL": "http://elsewhere", "AWS_ACCESS_KEY": "x", "AWS_SESSION_TOKEN": "y", "EC2_PRIVATE_KEY": "/z"}
    access = find_access(recipe, foreign, "a.yaml")
    urls = {line.split("=")[0]: line.split("=", 1)[1].strip('";').rstrip("/")
            for line in path.read_text().replace("export ", "").splitlines() if "_URL=" in line}  # fmt: skip
    token = "FiveToken" if release == "5" else ""
    assert access == Access(f"{name}AccessKey", f"{name}SecretKey", token, urls["EC2_URL"], urls["S3_URL"],
                            "eucalyptus", True, str(path))  # fmt: skip
    found = read_variables(read_eucarc(path, {}).values, path)
    assert found["account"].value == account
    files = {role: Path(setting.value) for role, setting in found.items() if role.endswith(("_key", "certificate"))
             and role not in ("access_key", "secret_key")}  # fmt: skip
    assert len(files) == (0 if release == "5" else 3)
    assert {file.parent for file in files.values()} <= {folder}
