"""Credential files of each generation of Eucalyptus, read without a shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from xenkiln.clouds.eucarc import read_eucarc

OF_1_4 = """\
EUCA_KEY_DIR=$(dirname $(readlink -f ${BASH_SOURCE}))
export S3_URL=http://10.0.0.1:8773/services/Walrus
export EC2_URL=http://10.0.0.1:8773/services/Eucalyptus
export EC2_PRIVATE_KEY=${EUCA_KEY_DIR}/euca2-admin-5c8ee5e8-pk.pem
export EC2_CERT=${EUCA_KEY_DIR}/euca2-admin-5c8ee5e8-cert.pem
export EUCALYPTUS_CERT=${EUCA_KEY_DIR}/cloud-cert.pem
export EC2_ACCESS_KEY='WKy3rMzOWPouVOxK1p3Ar1C2uRBwa2FBXnCw'
export EC2_SECRET_KEY='8aYH$3{x}"'
# This is a bogus value; Eucalyptus does not need this but client tools do.
alias ec2-bundle-image="ec2-bundle-image --cert ${EC2_CERT} --user 000100729354 --ec2cert ${EUCALYPTUS_CERT}"
alias ec2-upload-bundle="ec2-upload-bundle -a ${EC2_ACCESS_KEY} -s ${EC2_SECRET_KEY} --url ${S3_URL}"
"""
OF_4 = """\
EUCA_KEY_DIR=$(cd $(dirname ${BASH_SOURCE:-$0}); pwd -P)
export EC2_URL=https://ec2.cloud.example.org:8773/
export EC2_ACCOUNT_NUMBER='000123456789'
export EC2_PRIVATE_KEY="${EUCA_KEY_DIR}/pk.pem"
export EC2_CERT=${EUCA_KEY_DIR}/cert.pem # mine
export EUCALYPTUS_CERT=$EUCA_KEY_DIR/cloud-cert.pem; export EC2_USER_ID='004471839465'
export EC2_USER_ID='004471839465'
echo "WARNING: no CloudWatch"
export TODAY=$(date)
export TICK=`id`
alias euca-bundle-image="euca-bundle-image --user ${EC2_ACCOUNT_NUMBER}"
"""


def read(folder: Path, text: str) -> dict[str, str]:
    path = folder / "my keys" / "eucarc"
    path.parent.mkdir()
    path.write_text(text)
    return read_eucarc(path, {"HOME": "/home/me"})


def test_that_of_1_4_has_the_account_in_an_alias(tmp_path: Path) -> None:
    found = read(tmp_path, OF_1_4)
    folder = tmp_path / "my keys"
    assert found["EC2_PRIVATE_KEY"] == f"{folder}/euca2-admin-5c8ee5e8-pk.pem"
    assert found["EUCALYPTUS_CERT"] == f"{folder}/cloud-cert.pem"
    assert found["S3_URL"] == "http://10.0.0.1:8773/services/Walrus"
    assert found["EC2_USER_ID"] == "000100729354"
    assert found["EC2_SECRET_KEY"] == '8aYH$3{x}"'


def test_that_of_4_has_it_in_a_variable(tmp_path: Path) -> None:
    found = read(tmp_path, OF_4)
    folder = tmp_path / "my keys"
    assert found["EC2_ACCOUNT_NUMBER"] == "000123456789"
    assert found["EC2_USER_ID"] == "004471839465"
    assert found["EC2_PRIVATE_KEY"] == f"{folder}/pk.pem"
    assert found["EC2_CERT"] == f"{folder}/cert.pem"
    assert found["EUCALYPTUS_CERT"] == f"{folder}/cloud-cert.pem"
    assert not {"TODAY", "TICK"} & found.keys()


def test_nothing_in_it_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    read(tmp_path, f"touch {marker}\nexport A=$(touch {marker})\nexport B=`touch {marker}`\nC=x; touch {marker}\n")
    assert not marker.exists()


LINES = """\
D=/d
export A="$D"/x.pem
export B=$HOME/.euca/pk.pem
export C=my\\ dir
export E=1 F=2; G=3
export H=a#b # c
export I="a\\$D b"'$D'"\\\\"
export J=''
K=$UNKNOWN.x
export L="it's"
"""


def test_words_are_what_sh_makes_of_them(tmp_path: Path) -> None:
    ours = read(tmp_path, LINES)
    names = sorted(ours)
    script = f"{LINES}\n" + "".join(f'printf "%s\\\\0" "${name}"\n' for name in names)
    done = subprocess.run(["sh", "-c", script], env={"HOME": "/home/me"}, capture_output=True, check=True, text=True)
    assert names == list("ABCDEFGHIJKL")
    assert [ours[name] for name in names] == done.stdout.split("\0")[:-1]


@pytest.mark.parametrize(
    "value", ["${Q:-/d}", "$(date)", "`id`", "a$(id)", '"a`id`"', "$((1))", "'open", '"open', "a|b"]
)
def test_what_only_a_shell_could_tell_is_left_out(tmp_path: Path, value: str) -> None:
    assert read(tmp_path, f"export A={value}\nexport B=kept\n") == {"B": "kept"}


def test_the_folder_is_that_of_the_file_or_of_what_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/eucarc").write_text(OF_1_4)
    (tmp_path / "eucarc").symlink_to("real/eucarc")
    assert read_eucarc(tmp_path / "eucarc", {})["EUCALYPTUS_CERT"] == f"{tmp_path}/real/cloud-cert.pem"
    (tmp_path / "real/eucarc").write_text(OF_4)
    assert read_eucarc(tmp_path / "eucarc", {})["EUCALYPTUS_CERT"] == f"{tmp_path}/cloud-cert.pem"


@pytest.mark.parametrize("text", ["", "\0\xff", "export =x", "export A='open", 'export B="open', "A"])
def test_what_is_no_eucarc_has_no_variables(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == {}
