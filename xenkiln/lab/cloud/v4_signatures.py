"""Signature version 4 as a server checks it: AWS4-HMAC-SHA256 in the Authorization header, of EC2 and of S3."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from xenkiln.lab.cloud.faults import Fault, refuse_signature
from xenkiln.lab.cloud.request import Request

ALGORITHM = "AWS4-HMAC-SHA256"
HEADER = re.compile(
    rf"{ALGORITHM}\s+Credential=([^/,\s]+)/([^,\s]+),\s*SignedHeaders=([^,\s]+),\s*Signature=([0-9a-f]{{64}})"
)
UNRESERVED = "-_.~"


@dataclass(frozen=True)
class Scope:
    """What a key that was derived from a secret is good for, and with which a body's chunks are signed on."""

    key: bytes
    date: str
    scope: str
    signature: str


def sign(key: bytes, text: str) -> bytes:
    """HMAC-SHA256."""
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def check_v4(request: Request, service: str, payload: str, secrets: Mapping[str, str], unknown: Fault) -> Scope:
    """Raises Fault, `unknown` for an access key that nobody has; payload: the hash that was signed, as text."""
    match = HEADER.fullmatch(request.header("Authorization"))
    if match is None:
        raise Fault("IncompleteSignature", f"The Authorization header is not that of {ALGORITHM}.")
    access, scope, names, signature = match[1], match[2], match[3].split(";"), match[4]
    date = request.header("x-amz-date")
    if access not in secrets:
        raise unknown
    parts = scope.split("/")
    if len(parts) != 4 or parts[0] != date[:8] or parts[2:] != [service, "aws4_request"]:
        raise Fault("SignatureDoesNotMatch", f"The credential's scope is not DATE/REGION/{service}/aws4_request.", 403)
    needed = {"host", *(name.lower() for name in request.headers if name.lower().startswith("x-amz-"))}
    if not needed <= {*names} or names != sorted(names):
        raise Fault("SignatureDoesNotMatch", "host and every x-amz- header must be signed, in order.", 403)
    key = f"AWS4{secrets[access]}".encode()
    for part in parts:
        key = sign(key, part)
    hashed = hashlib.sha256(_make_canonical(request, service, names, payload)).hexdigest()
    wanted = sign(key, f"{ALGORITHM}\n{date}\n{scope}\n{hashed}").hex()
    if not hmac.compare_digest(wanted, signature):
        raise refuse_signature()
    return Scope(key, date, scope, signature)


def parse_v4_date(request: Request) -> float | None:
    """Of its x-amz-date, in seconds; None where there is none that is right."""
    try:
        date = datetime.strptime(request.header("x-amz-date"), "%Y%m%dT%H%M%SZ")  # Z is UTC
    except ValueError:
        return None
    return date.replace(tzinfo=UTC).timestamp()


def _make_canonical(request: Request, service: str, names: list[str], payload: str) -> bytes:
    # S3's paths are encoded once, everybody else's are encoded again.
    path = quote(unquote(request.path) if service == "s3" else request.path, safe=f"/{UNRESERVED}")
    query = sorted((quote(name, safe=UNRESERVED), quote(value, safe=UNRESERVED))
                   for name, value in request.parameters())  # fmt: skip
    headers = "".join(
        f"{name}:{','.join(' '.join(value.split()) for value in request.headers.get_all(name, []))}\n" for name in names
    )
    lines = [request.method, path, "&".join("=".join(pair) for pair in query), headers, ";".join(names), payload]
    # http.server has read the headers as Latin-1, which keeps every byte.
    return "\n".join(lines).encode("latin-1", "replace")
