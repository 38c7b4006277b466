"""An object on its way in: streamed to its file, checked against all that was said of it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator

from xenkiln.lab.cloud.faults import Fault, report_cut
from xenkiln.lab.cloud.objects import Incoming, Shelf, Stored
from xenkiln.lab.cloud.profiles import Profile
from xenkiln.lab.cloud.request import Body, Request
from xenkiln.lab.cloud.storage_signatures import Claim
from xenkiln.lab.cloud.v4_signatures import Scope, sign

ACLS = ("private", "public-read", "public-read-write", "authenticated-read", "bucket-owner-read",
        "bucket-owner-full-control", "aws-exec-read")  # fmt: skip
CHUNK_HEADER = re.compile(rb"([0-9a-fA-F]{1,8});chunk-signature=([0-9a-f]{64})\r\n")
LONGEST_HEADER = 128
EMPTY_SHA256 = hashlib.sha256().hexdigest()


def read_acl(request: Request) -> str:
    """The canned one that is asked for."""
    acl = request.header("x-amz-acl") or "private"
    if acl not in ACLS:
        raise Fault("InvalidArgument", f"There is no canned ACL {acl[:40]!a}.")
    return acl


def put_object(request: Request, profile: Profile, shelf: Shelf, claim: Claim, bucket: str, key: str) -> Stored:
    """Take the body as the object, or raise Fault and leave what was there before."""
    acl, md5 = read_acl(request), _read_md5(request)
    codings = [each.strip() for each in request.header("Content-Encoding").split(",") if each.strip()]
    is_coded = "aws-chunked" in codings or claim.chunks is not None
    if is_coded and claim.chunks is None:
        # An older release would keep the chunks' headers as part of the object, and say nothing.
        raise Fault("NotImplemented", "aws-chunked is not implemented, or not without signed chunks.", 501)
    size = _read_length(request, profile, is_coded=is_coded)
    shelf.check_room(bucket, key, size or 0)
    headers = {"Content-Type": request.header("Content-Type") or "binary/octet-stream"}
    headers |= {name.lower(): value for name, value in request.headers.items()
                if name.lower().startswith("x-amz-meta-")}  # fmt: skip
    if kept := [each for each in codings if each != "aws-chunked"]:
        headers["Content-Encoding"] = ",".join(kept)
    with shelf.receive() as incoming:
        pieces = decode_chunks(request.body, claim.chunks) if claim.chunks else iter(request.body)
        sha256 = _write(incoming, pieces, shelf, bucket, key, with_sha256=bool(claim.sha256))
        if size is not None and incoming.size != size:
            raise report_cut()
        if md5 is not None and incoming.md5.digest() != md5:
            raise Fault("BadDigest", "The Content-MD5 you specified did not match what we received.")
        if sha256 != claim.sha256:
            raise Fault("XAmzContentSHA256Mismatch", "The x-amz-content-sha256 does not match what we received.")
        return shelf.store(incoming, bucket, key, acl, headers)


def _write(
    incoming: Incoming, pieces: Iterator[bytes | memoryview], shelf: Shelf, bucket: str, key: str, *, with_sha256: bool
) -> str:
    """Returns the SHA-256 in hex where it is asked for."""
    sha256 = hashlib.sha256()
    checked = 0
    for piece in pieces:
        incoming.write(piece)
        if with_sha256:
            sha256.update(piece)
        if incoming.size - checked > 64 << 20:
            # A body in chunks does not say how large it will be.
            shelf.check_room(bucket, key, incoming.size)
            checked = incoming.size
    return sha256.hexdigest() if with_sha256 else ""


def _read_md5(request: Request) -> bytes | None:
    text = request.header("Content-MD5")
    if not text:
        return None
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise Fault("InvalidDigest", "The Content-MD5 you specified is not valid.")
    return digest


def _read_length(request: Request, profile: Profile, *, is_coded: bool) -> int | None:
    """Of the object, None where nobody says it."""
    if request.body.length is None and not profile.chunked:
        raise Fault("MissingContentLength", "You must provide the Content-Length HTTP header.", 411)
    if not is_coded:
        return request.body.length
    text = request.header("x-amz-decoded-content-length")
    if not re.fullmatch("[0-9]{1,15}", text):
        raise Fault("MissingContentLength", "You must provide the x-amz-decoded-content-length header.", 411)
    return int(text)


class _Pieces:
    """A body by lines and lengths."""

    def __init__(self, body: Body) -> None:
        self._pieces = iter(body)
        self._rest = bytearray()

    def _more(self) -> bool:
        piece = next(self._pieces, None)
        if piece is not None:
            self._rest += piece
        return piece is not None

    def take_line(self) -> bytes:
        while (end := self._rest.find(b"\n")) < 0:
            if len(self._rest) > LONGEST_HEADER or not self._more():
                raise report_cut()
        line = bytes(self._rest[: end + 1])
        del self._rest[: end + 1]
        return line

    def take(self, count: int) -> Iterator[bytes]:
        while count:
            if not self._rest and not self._more():
                raise report_cut()
            piece = bytes(self._rest[:count])
            del self._rest[: len(piece)]
            count -= len(piece)
            yield piece

    def is_at_end(self) -> bool:
        return not self._rest and not self._more()


def decode_chunks(body: Body, scope: Scope) -> Iterator[bytes]:
    """The content of an aws-chunked body; each chunk's signature builds on the one before it."""
    pieces, before = _Pieces(body), scope.signature
    size = -1
    while size:
        match = CHUNK_HEADER.fullmatch(pieces.take_line())
        if match is None:
            raise Fault("InvalidRequest", "A chunk does not begin with its size and signature.")
        size, digest = int(match[1], 16), hashlib.sha256()
        for piece in pieces.take(size):
            digest.update(piece)
            yield piece
        if pieces.take_line() != b"\r\n":
            raise Fault("InvalidRequest", "A chunk does not end where it should.")
        lines = ("AWS4-HMAC-SHA256-PAYLOAD", scope.date, scope.scope, before, EMPTY_SHA256, digest.hexdigest())
        before = match[2].decode("ascii")
        if not hmac.compare_digest(sign(scope.key, "\n".join(lines)).hex(), before):
            raise Fault("SignatureDoesNotMatch", "The signature of a chunk does not match.", 403)
    if not pieces.is_at_end():
        raise Fault("InvalidRequest", "Something follows the last chunk.")
