"""Who speaks to Walrus: HMAC-SHA1 over method, dates, headers and path, and version 4 where the release knows it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from xenkiln.lab.cloud.faults import Fault, refuse_access, refuse_signature
from xenkiln.lab.cloud.profiles import Profile
from xenkiln.lab.cloud.request import Request
from xenkiln.lab.cloud.v4_signatures import ALGORITHM, Scope, check_v4, parse_v4_date

SKEW_SECONDS = 900
SUBRESOURCES = ("acl", "location", "logging", "torrent")
"""Those that are part of what is signed, in 1.4 as today."""
LATER_SUBRESOURCES = ("delete", "lifecycle", "notification", "partNumber", "policy", "requestPayment", "tagging",
                      "uploadId", "uploads", "versionId", "versioning", "versions", "website", "cors")  # fmt: skip
UNSIGNED, STREAMING = "UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


@dataclass(frozen=True)
class Claim:
    """What a signature says of the body: its SHA-256 in hex, or that its chunks are signed one by one, or nothing."""

    sha256: str = ""
    chunks: Scope | None = None


def refuse_key() -> Fault:
    """Nobody has that access key."""
    return Fault("InvalidAccessKeyId", "The Access Key Id you provided does not exist in our records.", 403)


def refuse_skew() -> Fault:
    """Somebody's clock is wrong."""
    return Fault("RequestTimeTooSkewed", "The difference between the request time and ours is too large.", 403)


def check_storage_signature(
    request: Request, profile: Profile, prefix: str, secrets: Mapping[str, str]
) -> Claim | None:
    """What is claimed of the body; None for an anonymous request. Raises Fault; `prefix` is the service's path."""
    given = request.header("Authorization")
    if not given:
        return None
    if len(request.headers.get_all("Authorization", [])) > 1:
        raise Fault("InvalidArgument", "There is more than one Authorization header.")
    if given.startswith(ALGORITHM):
        if not profile.storage_v4:
            raise Fault("InvalidArgument", "Unsupported Authorization Type")
        return _check_v4_claim(request, secrets)
    match = re.fullmatch(r"AWS ([^\s:]+):([A-Za-z0-9+/]+=*)", given)
    if match is None:
        raise Fault("InvalidArgument", "Unsupported Authorization Type")
    if match[1] not in secrets:
        raise refuse_key()
    _check_date(request)
    paths = [request.path]
    if profile.strips_service_path:
        paths.append(request.path.removeprefix(prefix) or "/")
    for path in paths:
        text = make_string_to_sign(request, path, later=profile.has_tags)
        digest = hmac.new(secrets[match[1]].encode(), text.encode("latin-1", "replace"), hashlib.sha1).digest()
        if hmac.compare_digest(base64.b64encode(digest).rstrip(b"="), match[2].encode().rstrip(b"=")):
            return Claim()
    raise refuse_signature()


def _check_date(request: Request) -> None:
    text = request.header("x-amz-date") or request.header("Date")
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        raise refuse_access("Authentication requires a valid Date or x-amz-date header") from None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    if abs(date.timestamp() - time.time()) > SKEW_SECONDS:
        raise refuse_skew()


def make_string_to_sign(request: Request, path: str, *, later: bool) -> str:
    """As S3 has defined it in 2006; an x-amz-date stands for the Date."""
    lines = [request.method, request.header("Content-MD5"), request.header("Content-Type"),
             "" if request.header("x-amz-date") else request.header("Date")]  # fmt: skip
    amz: dict[str, list[str]] = {}
    for name, value in request.headers.items():
        if name.lower().startswith("x-amz-"):
            amz.setdefault(name.lower(), []).append(" ".join(value.split()))
    lines += [f"{name}:{','.join(values)}" for name, values in sorted(amz.items())]
    known = {*SUBRESOURCES, *(LATER_SUBRESOURCES if later else ())}
    parts = sorted((name, value) for name, value in request.parameters() if name in known)
    query = "&".join(f"{name}={value}" if value else name for name, value in parts)
    return "\n".join([*lines, f"{path}?{query}" if query else path])


def _check_v4_claim(request: Request, secrets: Mapping[str, str]) -> Claim:
    date = parse_v4_date(request)
    if date is None:
        raise refuse_access("Authentication requires a valid x-amz-date header")
    if abs(date - time.time()) > SKEW_SECONDS:
        raise refuse_skew()
    payload = request.header("x-amz-content-sha256")
    if not re.fullmatch(f"[0-9a-f]{{64}}|{UNSIGNED}|{STREAMING}", payload):
        # Trailers came years after 4.4.
        raise Fault("InvalidArgument", "x-amz-content-sha256 must be a SHA-256, or one of the words of 2016.")
    scope = check_v4(request, "s3", payload, secrets, refuse_key())
    if payload == STREAMING:
        return Claim(chunks=scope)
    return Claim("" if payload == UNSIGNED else payload)
