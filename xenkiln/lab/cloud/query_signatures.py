"""Who speaks to EC2: signatures of the query API in versions 1, 2 and 4, and how old a request may be."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from xenkiln.lab.cloud.faults import Fault, miss_parameter, refuse_signature, reject_value
from xenkiln.lab.cloud.profiles import Profile
from xenkiln.lab.cloud.request import Request
from xenkiln.lab.cloud.v4_signatures import ALGORITHM, UNRESERVED, check_v4, parse_v4_date

TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z?")
CONSUMED = ("AWSAccessKeyId", "Signature", "SignatureVersion", "Timestamp", "Expires")
"""What a signature brings along; SignatureMethod came with version 2."""


def check_query_signature(
    request: Request, body: bytes, profile: Profile, parameters: Mapping[str, str], secrets: Mapping[str, str]
) -> frozenset[str]:
    """The parameters that belong to the signature; raises Fault."""
    if request.header("Authorization").startswith(ALGORITHM) and "4" in profile.query_signatures:
        _check_time(parse_v4_date(request), profile.skew_seconds)
        check_v4(request, "ec2", hashlib.sha256(body).hexdigest(), secrets, refuse_credentials())
        return frozenset()
    for name in ("AWSAccessKeyId", "SignatureVersion", "Signature"):
        if not parameters.get(name):
            raise miss_parameter(name)
    version = parameters["SignatureVersion"]
    if version not in profile.query_signatures - {"4"}:
        raise reject_value("SignatureVersion", version)
    secret = secrets.get(parameters["AWSAccessKeyId"])
    if secret is None:
        raise refuse_credentials()
    check_age(parameters, profile)
    signature = parameters["Signature"].encode()
    unsigned = {name: value for name, value in parameters.items() if name != "Signature"}
    wanted = [sign_v1(secret, unsigned)] if version == "1" else sign_v2(secret, request, unsigned)
    if not any(hmac.compare_digest(each, signature) for each in wanted):
        raise refuse_signature()
    return frozenset(CONSUMED if profile.query_signatures == {"1"} else (*CONSUMED, "SignatureMethod"))


def refuse_credentials() -> Fault:
    """Nobody has that access key."""
    return Fault("AuthFailure", "The cloud was not able to validate the provided access credentials.", 401)


def check_age(parameters: Mapping[str, str], profile: Profile) -> None:
    """By Timestamp, which may be some minutes off, or by Expires."""
    given = [name for name in ("Timestamp", "Expires") if name in parameters]
    if len(given) != 1:
        raise Fault("MissingParameter", "The request must contain the parameter Timestamp or Expires, and not both.")
    text = parameters[given[0]]
    if not TIME.fullmatch(text):
        raise reject_value(given[0], text)
    try:
        seconds = datetime.fromisoformat(text.rstrip("Z")).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise reject_value(given[0], text) from None
    if given[0] == "Timestamp":
        _check_time(seconds, profile.skew_seconds)
    elif seconds < time.time():
        raise refuse_age()


def _check_time(seconds: float | None, skew_seconds: int) -> None:
    if seconds is None or abs(seconds - time.time()) > skew_seconds:
        raise refuse_age()


def refuse_age() -> Fault:
    """Or somebody's clock is wrong."""
    return Fault("RequestExpired", "Request has expired, or its time is too far from ours.")


def sign_v1(secret: str, parameters: Mapping[str, str]) -> bytes:
    """HMAC-SHA1 over names and values one after the other, the names sorted without regard to case."""
    text = "".join(f"{name}{parameters[name]}" for name in sorted(parameters, key=str.lower))
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest())


def sign_v2(secret: str, request: Request, parameters: Mapping[str, str]) -> list[bytes]:
    """HMAC-SHA256 over method, host, path and the sorted query; with the host's port and without it."""
    if parameters.get("SignatureMethod") != "HmacSHA256":
        raise reject_value("SignatureMethod", parameters.get("SignatureMethod", ""))
    query = "&".join(f"{quote(name, safe=UNRESERVED)}={quote(parameters[name], safe=UNRESERVED)}"
                     for name in sorted(parameters))  # fmt: skip
    host = request.header("Host").lower()
    texts = [f"{request.method}\n{each}\n{request.path}\n{query}" for each in {host, host.partition(":")[0]}]
    return [base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()) for text in texts]
