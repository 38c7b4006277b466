"""Keys by which users get into their instances; private ones are told once, and not kept."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import tempfile
from pathlib import Path

from xenkiln.errors import CommandError
from xenkiln.lab.cloud.calls import Action, Call
from xenkiln.lab.cloud.faults import Fault
from xenkiln.lab.cloud.index import Record
from xenkiln.lab.cloud.markup import Node, list_items
from xenkiln.system.commands import Runner

KEYS = "keys"
SCRATCH = "scratch-"
"""How folders begin that hold a private key for a moment."""
LONGEST_NAME = 255
LARGEST_KEY = 16384
BITS = "2048"


def check_name(call: Call) -> str:
    """Of a new pair."""
    name = call.text("KeyName")
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise Fault("InvalidParameterValue", "The name of the key pair is not valid.")
    if call.cloud.index.find(KEYS, name):
        raise Fault("InvalidKeyPair.Duplicate", f"The keypair '{name}' already exists.")
    return name


def create(call: Call) -> Node:
    """An RSA key: its PEM goes to the caller, its public half stays."""
    name = check_name(call)
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=call.cloud.folder) as folder:
        key, der = Path(folder) / "key", Path(folder) / "key.der"
        runner = Runner()
        runner.run(["ssh-keygen", "-q", "-t", "rsa", "-b", BITS, "-m", "PEM", "-N", "", "-C", "", "-f", str(key)])
        runner.run(["openssl", "pkcs8", "-topk8", "-nocrypt", "-in", str(key), "-outform", "DER", "-out", str(der)])
        # EC2's own way for keys that it makes: SHA-1 of the private key.
        digest = hashlib.sha1(der.read_bytes(), usedforsecurity=False).hexdigest()
        material, public = key.read_text("ascii"), key.with_suffix(".pub").read_text("ascii").strip()
    return {**keep(call, name, ":".join(re.findall("..", digest)), public), "keyMaterial": material}


def keep(call: Call, name: str, fingerprint: str, public: str) -> dict[str, Node]:
    """Write the pair down, and describe it."""
    with call.cloud.index.changing():
        check_name(call)
        call.cloud.index.put(KEYS, name, {"name": name, "fingerprint": fingerprint, "public": f"{public} {name}"})
    return {"keyName": name, "keyFingerprint": fingerprint}


def import_public(call: Call) -> Node:
    """A public key that the user has made, as ssh has it."""
    name = check_name(call)
    try:
        text = base64.b64decode(call.text("PublicKeyMaterial"), validate=True).decode("ascii").strip()
    except (binascii.Error, ValueError):
        raise refuse_format() from None
    if len(text) > LARGEST_KEY or not re.fullmatch(r"ssh-(rsa|ed25519) [A-Za-z0-9+/]+=*( [ -~]*)?", text):
        raise refuse_format()
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=call.cloud.folder) as folder:
        path = Path(folder) / "key.pub"
        path.write_text(f"{text}\n")
        try:
            said = Runner().read(["ssh-keygen", "-l", "-E", "md5", "-f", str(path)])
        except CommandError:
            raise refuse_format() from None
    return keep(call, name, said.split()[1].removeprefix("MD5:"), " ".join(text.split()[:2]))


def refuse_format() -> Fault:
    """Of something that is no key."""
    return Fault("InvalidKey.Format", "Key is not in valid OpenSSH public key format")


def describe(call: Call) -> Node:
    """All pairs, or those that are named."""
    names = call.texts("KeyName")
    found = [find(call, name) for name in names] if names else call.cloud.index.list_all(KEYS)
    return {"keySet": list_items({"keyName": each["name"], "keyFingerprint": each["fingerprint"]} for each in found)}


def find(call: Call, name: str) -> Record:
    """One pair."""
    found = call.cloud.index.find(KEYS, name)
    if found is None:
        raise Fault("InvalidKeyPair.NotFound", f"The key pair '{name}' does not exist")
    return found


def remove(call: Call) -> Node:
    """Forget a pair; one that is not there is fine."""
    call.cloud.index.remove(KEYS, call.text("KeyName"))
    return {"return": "true"}


ACTIONS = {
    "CreateKeyPair": Action(create, "KeyName"),
    "ImportKeyPair": Action(import_public, "KeyName PublicKeyMaterial", since=(3, 0)),
    "DescribeKeyPairs": Action(describe, "KeyName.N"),
    "DeleteKeyPair": Action(remove, "KeyName"),
}
