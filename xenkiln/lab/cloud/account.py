"""The cloud's one user, an administrator as whoever sets a lab up is, and the credentials that are handed out."""

from __future__ import annotations

import json
import secrets
import string
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

from xenkiln.errors import HostError
from xenkiln.lab.cloud.profiles import Profile
from xenkiln.system.commands import Runner
from xenkiln.system.files import remove_path, write_finished

USER = "admin"
LETTERS = string.ascii_letters + string.digits
CAPITALS = string.ascii_uppercase + string.digits
DAYS = "3650"
EUCARC, CLOUD_CERTIFICATE, CLOUD_KEY, ACCOUNT = "eucarc", "cloud-cert.pem", "cloud-pk.pem", "account.json"

FOLDER_LINES = {
    1: "EUCA_KEY_DIR=$(dirname $(readlink -f ${BASH_SOURCE}))",
    4: "EUCA_KEY_DIR=$(cd $(dirname ${BASH_SOURCE:-$0}); pwd -P)",
}
COMMON = """\
export S3_URL={url}{paths[0]}
export EC2_URL={url}{paths[1]}
export EC2_PRIVATE_KEY=${{EUCA_KEY_DIR}}/{key}
export EC2_CERT=${{EUCA_KEY_DIR}}/{certificate}
export EUCALYPTUS_CERT=${{EUCA_KEY_DIR}}/cloud-cert.pem
export EC2_ACCESS_KEY='{access}'
export EC2_SECRET_KEY='{secret}'
"""
OF_2 = """\
export EC2_JVM_ARGS=-Djavax.net.ssl.trustStore=${{EUCA_KEY_DIR}}/jssecacerts
# This is a bogus value; Eucalyptus does not need this but client tools do.
export EC2_USER_ID='{user}'
"""
OF_3 = """\
export AWS_ACCESS_KEY='{access}'
export AWS_SECRET_KEY='{secret}'
export EC2_ACCOUNT_NUMBER='{account}'
# This is a bogus value; Eucalyptus does not need this but client tools do.
export EC2_USER_ID='{user}'
"""
ALIASES = """\
alias ec2-bundle-image="ec2-bundle-image --cert ${{EC2_CERT}} --privatekey ${{EC2_PRIVATE_KEY}} --user {shown}\
 --ec2cert ${{EUCALYPTUS_CERT}}"
alias ec2-upload-bundle="ec2-upload-bundle -a ${{EC2_ACCESS_KEY}} -s ${{EC2_SECRET_KEY}} --url ${{S3_URL}}\
 --ec2cert ${{EUCALYPTUS_CERT}}"
"""


@dataclass(frozen=True)
class Account:
    """number: a manifest's user, 12 digits; user: another number from 3.0 on; mark: in the files' names."""

    number: str
    user: str
    access: str
    secret: str
    mark: str

    @property
    def stem(self) -> str:
        """How the names of the user's key and certificate begin."""
        return f"euca2-{USER}-{self.mark}"


def open_account(folder: Path, profile: Profile) -> Account:
    """The account that lies in a cloud's folder, made on the first start; finished or absent."""
    kept, handed_out, partial = folder / "cloud", folder / "credentials", folder / "account.partial"
    if (kept / ACCOUNT).exists():
        return _read_account(kept / ACCOUNT)
    for path in (kept, handed_out, partial):
        remove_path(path)
    account = _make_account(profile)
    for path in (partial / "kept", partial / "handed-out"):
        path.mkdir(parents=True, mode=0o700)
    make_pair("eucalyptus", partial / "kept" / CLOUD_KEY, partial / "handed-out" / CLOUD_CERTIFICATE)
    stem = str(partial / "handed-out" / account.stem)
    make_pair(USER, Path(f"{stem}-pk.pem"), Path(f"{stem}-cert.pem"))
    write_finished(partial / "kept" / ACCOUNT, json.dumps(asdict(account)), 0o600)
    (partial / "handed-out").rename(handed_out)
    (partial / "kept").rename(kept)
    partial.rmdir()
    return account


def _read_account(path: Path) -> Account:
    try:
        return Account(**json.loads(path.read_text(encoding="ascii")))
    except (ValueError, TypeError) as error:
        raise HostError("is damaged", place=str(path),
                        next_step=f"remove {path.parents[1]}: an empty cloud is made anew") from error  # fmt: skip


def _make_account(profile: Profile) -> Account:
    """Numbers and keys in the form that the release gives them."""
    mark = secrets.token_hex(4)
    if profile.release < (3, 0):
        number = f"{zlib.adler32(USER.encode()):012d}"
        return Account(number, number, make_word(36, LETTERS), make_word(36, LETTERS), mark)
    number, user = make_word(12, string.digits), make_word(12, string.digits)
    return Account(number, user, f"AKI{make_word(17, CAPITALS)}", make_word(40, LETTERS), mark)


def make_word(length: int, letters: str) -> str:
    """Letters that nobody can guess."""
    return "".join(secrets.choice(letters) for _ in range(length))


def make_pair(name: str, key: Path, certificate: Path) -> None:
    """An RSA key and a certificate of it that it has signed itself."""
    Runner().run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-days", DAYS,
                  "-keyout", str(key), "-out", str(certificate)])  # fmt: skip
    key.chmod(0o600)
    certificate.chmod(0o600)


def write_eucarc(folder: Path, profile: Profile, account: Account, url: str) -> Path:
    """The credentials' script, as that release writes it; `url` is without a path."""
    major = profile.release[0]
    text = COMMON + {1: "", 2: OF_2}.get(major, OF_3) + ALIASES
    shown = "${EC2_ACCOUNT_NUMBER}" if major >= 3 else account.number
    path = folder / "credentials" / EUCARC
    write_finished(path, f"{FOLDER_LINES[4 if major >= 4 else 1]}\n" + text.format(
        url=url, paths=profile.paths[0], key=f"{account.stem}-pk.pem", certificate=f"{account.stem}-cert.pem",
        access=account.access, secret=account.secret, account=account.number, user=account.user, shown=shown,
    ), 0o600)  # fmt: skip
    return path
