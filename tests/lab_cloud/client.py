"""A client of the lab's cloud that signs by hand: nothing of the product and nothing of the server takes part."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from urllib.parse import parse_qsl, quote, urlsplit

TIMEOUT_SECONDS = 60
UNRESERVED = "-_.~"


@dataclass(frozen=True)
class Keys:
    access: str
    secret: str


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def tree(self) -> ET.Element:
        """Without namespaces."""
        root = ET.fromstring(self.body)
        for element in root.iter():
            element.tag = element.tag.partition("}")[2] or element.tag
        return root

    @property
    def code(self) -> str:
        """A refusal's; "" for an answer."""
        if self.status < 300 or not self.body.startswith(b"<"):
            return "" if self.status < 300 else str(self.status)
        return self.tree.findtext(".//Code") or ""

    @property
    def message(self) -> str:
        return self.tree.findtext(".//Message") or ""

    def text(self, path: str) -> str:
        found = self.tree.findtext(path)
        assert found is not None, (path, self.body)
        return found

    def texts(self, path: str) -> list[str]:
        return [element.text or "" for element in self.tree.iterfind(path)]


def send(port: int, method: str, target: str, headers: Mapping[str, str], body: bytes | Iterable[bytes] = b"") -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        is_chunked = not isinstance(body, bytes)
        connection.request(method, target, body if body else None, dict(headers), encode_chunked=is_chunked)
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    finally:
        connection.close()


def sign_storage(keys: Keys, method: str, target: str, headers: Mapping[str, str], cut: str = "") -> str:
    """The Authorization header of S3's first signature; `cut` is a part of the path that is not signed."""
    lower = {name.lower(): value for name, value in headers.items()}
    date = "" if "x-amz-date" in lower else lower.get("date", "")
    lines = [method, lower.get("content-md5", ""), lower.get("content-type", ""), date]
    lines += [f"{name}:{lower[name]}" for name in sorted(lower) if name.startswith("x-amz-")]
    path, _, query = target.partition("?")
    signed = path.removeprefix(cut)
    if query in ("location", "acl", "torrent", "logging", "uploads"):
        signed += f"?{query}"
    text = "\n".join([*lines, signed])
    digest = hmac.new(keys.secret.encode(), text.encode(), hashlib.sha1).digest()
    return f"AWS {keys.access}:{base64.b64encode(digest).decode()}"


def sign_v1(keys: Keys, parameters: Mapping[str, str]) -> dict[str, str]:
    whole = {**parameters, "AWSAccessKeyId": keys.access, "SignatureVersion": "1"}
    text = "".join(name + whole[name] for name in sorted(whole, key=str.lower))
    digest = hmac.new(keys.secret.encode(), text.encode(), hashlib.sha1).digest()
    return {**whole, "Signature": base64.b64encode(digest).decode()}


def sign_v2(keys: Keys, method: str, host: str, path: str, parameters: Mapping[str, str]) -> dict[str, str]:
    whole = {**parameters, "AWSAccessKeyId": keys.access, "SignatureVersion": "2", "SignatureMethod": "HmacSHA256"}
    query = "&".join(f"{quote(name, safe=UNRESERVED)}={quote(whole[name], safe=UNRESERVED)}" for name in sorted(whole))
    digest = hmac.new(keys.secret.encode(), f"{method}\n{host}\n{path}\n{query}".encode(), hashlib.sha256).digest()
    return {**whole, "Signature": base64.b64encode(digest).decode()}


def stamp(shift_seconds: float = 0, form: str = "%Y-%m-%dT%H:%M:%SZ") -> str:
    return datetime.fromtimestamp(time.time() + shift_seconds, UTC).strftime(form)


def mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def derive_key(keys: Keys, scope: str) -> bytes:
    key = f"AWS4{keys.secret}".encode()
    for part in scope.split("/"):
        key = mac(key, part)
    return key


def sign_v4(
    keys: Keys, service: str, method: str, target: str, headers: Mapping[str, str], payload: str,
    shift_seconds: float = 0,
) -> dict[str, str]:
    """All headers, signed."""
    date = stamp(shift_seconds, "%Y%m%dT%H%M%SZ")
    scope = f"{date[:8]}/anywhere/{service}/aws4_request"
    whole = {**headers, "x-amz-date": date}
    lower = {name.lower(): " ".join(value.split()) for name, value in whole.items()}
    names = sorted(name for name in lower if name == "host" or name.startswith(("x-amz-", "content-md5")))
    url = urlsplit(target)
    query = "&".join(sorted(f"{quote(name, safe=UNRESERVED)}={quote(value, safe=UNRESERVED)}"
                            for name, value in parse_qsl(url.query, keep_blank_values=True)))  # fmt: skip
    path = url.path if service == "s3" else quote(url.path, safe=f"/{UNRESERVED}")
    lines = [f"{name}:{lower[name]}" for name in names]
    canonical = "\n".join([method, path, query, *lines, "", ";".join(names), payload])
    text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = mac(derive_key(keys, scope), text).hex()
    return {**whole, "Authorization": f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, "
                                      f"SignedHeaders={';'.join(names)}, Signature={signature}"}  # fmt: skip


@dataclass(frozen=True)
class Client:
    """Speaks to one cloud, with the oldest signatures that it takes."""

    port: int
    keys: Keys
    storage: str
    compute: str
    signature: str = "1"
    version: str = "2009-04-04"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def s3(self, method: str, target: str, body: bytes | Iterable[bytes] = b"", **headers: str) -> Reply:
        """target: /bucket/key, below the service's path; headers with _ for -."""
        whole = {"Date": formatdate(usegmt=True), **{name.replace("_", "-"): value for name, value in headers.items()}}
        whole["Authorization"] = sign_storage(self.keys, method, self.storage + target, whole)
        return send(self.port, method, self.storage + target, whole, body)

    def s3_v4(self, method: str, target: str, body: bytes = b"", payload: str = "", shift_seconds: float = 0,
              **headers: str) -> Reply:  # fmt: skip
        payload = payload or hashlib.sha256(body).hexdigest()
        whole = {"Host": self.host, "x-amz-content-sha256": payload,
                 **{name.replace("_", "-"): value for name, value in headers.items()}}  # fmt: skip
        signed = sign_v4(self.keys, "s3", method, self.storage + target, whole, payload, shift_seconds)
        return send(self.port, method, self.storage + target, signed, body)

    def ec2(self, action: str, parameters: Mapping[str, str] | None = None, method: str = "GET", **more: str) -> Reply:
        """A signed action; `more` are parameters whose names have no dots."""
        whole = {"Action": action, "Version": self.version, "Timestamp": stamp(), **(parameters or {}), **more}
        if self.signature == "1":
            signed = sign_v1(self.keys, whole)
        else:
            signed = sign_v2(self.keys, method, self.host, self.compute, whole)
        return self.ask(signed, method)

    def run(self, image: str, **more: str) -> str:
        """The id of an instance that was accepted."""
        reply = self.ec2("RunInstances", {"ImageId": image, "MinCount": "1", "MaxCount": "1", **more})
        assert reply.code == "", reply.body
        return reply.text("instancesSet/item/instanceId")

    def ask(
        self, parameters: Mapping[str, str], method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Parameters as they are."""
        query = "&".join(f"{quote(name, safe=UNRESERVED)}={quote(value, safe=UNRESERVED)}"
                         for name, value in parameters.items())  # fmt: skip
        if method == "GET":
            return send(self.port, method, f"{self.compute}?{query}", headers or {})
        form = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        return send(self.port, method, self.compute, {**form, **(headers or {})}, query.encode())


def is_id(text: str, kind: str) -> bool:
    return re.fullmatch(f"{kind}-[0-9A-F]{{8}}", text) is not None
