"""Credential files of each generation of Eucalyptus, read without a shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from xenkiln.clouds.eucarc import Eucarc, read_eucarc

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
    return read_eucarc(path, {"HOME": "/home/me"}).values


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
export M=${D:-/no}/m N=${Q:-/yes}/n O="${Q-a b}" P=${J:-empty} Q2=${J-kept}
export R=one\\
two S=3
# a comment \\
export T=4
export U=5
unset U
"""


def test_words_are_what_sh_makes_of_them(tmp_path: Path) -> None:
    ours = read(tmp_path, LINES)
    names = sorted(ours)
    script = f"{LINES}\n" + "".join(f'printf "%s\\\\0" "${name}"\n' for name in names)
    done = subprocess.run(["sh", "-c", script], env={"HOME": "/home/me"}, capture_output=True, check=True, text=True)
    assert names == sorted([*"ABCDEFGHIJKLMNOPRSTU", "Q2"])
    assert [ours[name] for name in names] == done.stdout.split("\0")[:-1]


@pytest.mark.parametrize(
    "value", ["${Q:-$(id)}", "${Q%/}", "$1", "$(date)", "`id`", "a$(id)", '"a`id`"', "$((1))", "'open", '"open', "a|b"]
)
def test_what_only_a_shell_could_tell_is_left_out(tmp_path: Path, value: str) -> None:
    path = tmp_path / "eucarc"
    path.write_text(f"A=known\nexport A={value}\nexport B=kept\n# on\nexport C=${{A}}/c D=\"$A\"\n")
    assert read_eucarc(path, {"A": "of another"}) == Eucarc({"B": "kept"}, {"A": 2, "C": 5, "D": 5})


def test_the_folder_is_that_of_the_file_or_of_what_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/eucarc").write_text(OF_1_4)
    (tmp_path / "eucarc").symlink_to("real/eucarc")
    assert read_eucarc(tmp_path / "eucarc", {}).values["EUCALYPTUS_CERT"] == f"{tmp_path}/real/cloud-cert.pem"
    (tmp_path / "real/eucarc").write_text(OF_4)
    assert read_eucarc(tmp_path / "eucarc", {}).values["EUCALYPTUS_CERT"] == f"{tmp_path}/cloud-cert.pem"


@pytest.mark.parametrize("text", ["", "\0\xff", "export =x", "export A='open", 'export B="open', "A"])
def test_what_is_no_eucarc_has_no_variables(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == {}


@pytest.mark.parametrize("line", [
    '$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)', '"$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"',
    '$(dirname "$(readlink -f "${BASH_SOURCE}")")', '"$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"',
    '$(dirname -- "$BASH_SOURCE")', '$(cd "$( dirname "${BASH_SOURCE[0]}" )" >/dev/null 2>&1 && pwd)',
    '"$(dirname "$(realpath "$BASH_SOURCE")")"',
])  # fmt: skip
def test_the_folder_however_it_is_asked_for(tmp_path: Path, line: str) -> None:
    text = f"EUCA_KEY_DIR={line.replace('( d', '(d')}\nexport EC2_CERT=${{EUCA_KEY_DIR}}/cert.pem\n"
    ours = read(tmp_path, text)["EC2_CERT"]
    path = tmp_path / "my keys" / "eucarc"
    script = f'. "{path}"; printf %s "$EC2_CERT"'
    assert ours == subprocess.run(["bash", "-c", script], capture_output=True, check=True, text=True).stdout
    assert ours == f"{path.parent}/cert.pem"


@pytest.mark.parametrize(("text", "wanted"), [
    ("if [ -f x ]; then\n  export A=1\nelse\n  export A=2\nfi\nexport B=3\n", Eucarc({"B": "3"}, {"A": 4})),
    ("if true; then export A=1; fi; export B=3\n", Eucarc({"B": "3"}, {"A": 1})),
    ("if [ -n \"$(id)\" ]; then export A=1; fi\nexport B=3\n", Eucarc({"B": "3"}, {"A": 1})),
    ("case $- in\n *i*) A=1;;\nesac\nexport B=3\n", Eucarc({"B": "3"}, {"A": 2})),
    ("f() {\n export A=1\n}\nB=3\n", Eucarc({"B": "3"}, {"A": 2})),
    ("A=1\n[ -f x ] && export A=2\nB=3 && C=4\n", Eucarc({"B": "3"}, {"A": 2, "C": 3})),
    ("A=1\nif true; then unset A; fi\n", Eucarc({}, {"A": 2})),
    ("A=$(id)\nA=1\nB=1\nB+=2\n", Eucarc({"A": "1"}, {"B": 4})),
    ("export \\\n A=$(id)\nC=\\\n3\n", Eucarc({"C": "3"}, {"A": 1})),
    ("A='open\\\nx'\nB=\"it's \\\nopen\"\nC=4 # it's \\\nD=5\n",
     Eucarc({"B": "it's open", "C": "4", "D": "5"}, {"A": 1})),
])  # fmt: skip
def test_what_stands_under_a_condition_is_unknown(text: str, wanted: Eucarc, tmp_path: Path) -> None:
    path = tmp_path / "eucarc"
    path.write_text(text)
    assert read_eucarc(path, {}) == wanted
