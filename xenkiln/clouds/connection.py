"""Clients of one cloud, in the dialect that it speaks: boto3 for all, with what a release does not know taken out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError
from botocore.handlers import add_expect_header, set_list_objects_encoding_type_url
from botocore.loaders import create_loader

import xenkiln.clouds.signing  # noqa: F401  # makes its signatures known to botocore
from xenkiln.clouds.dialects import ANY, Dialect
from xenkiln.errors import CloudError

if TYPE_CHECKING:
    from botocore.awsrequest import AWSRequest

    from xenkiln.clouds.access import Access

TRIES = 5
LONGEST_QUERY = 3000
"""Before it is signed: the servlet engine of Eucalyptus 1.4 reads a head of 4 KiB, headers and signature in it."""
NUMBERED = re.compile(r"\.\d+")
CONNECT_SECONDS = 10
ADDRESSING = "AddressingType"
NOT_REPEATABLE = ("RegisterImage", "RunInstances", "CreateKeyPair")
ONCE_AT_AMAZON = ("CreateKeyPair",)
"""Others have a token or a name of their own there, by which a second try changes nothing."""
NOT_SENT = (ConnectTimeoutError, EndpointConnectionError)
UNSURE_STATUSES = (500, 502, 504)


@dataclass(frozen=True)
class Connection:
    """A cloud that was connected to. ec2 and s3 are boto3 clients, which any number of threads may use.

    patience: botocore's settings of how long, and for how many threads.
    """

    name: str
    dialect: Dialect
    access: Access
    ec2: Any
    s3: Any
    patience: dict[str, int]

    def make_ebs(self) -> Any:
        """A client of Amazon's EBS direct API."""
        return _open_session(self.access).client(
            "ebs", endpoint_url=self.access.ebs_url or None, verify=self.access.verify,
            config=Config(retries={"mode": "standard", "total_max_attempts": 1}, **self.patience),
        )  # fmt: skip


def connect(name: str, dialect: Dialect, access: Access, *, timeout_seconds: int, threads: int) -> Connection:
    """Make both clients; nothing is sent yet."""
    session = _open_session(access)
    patience = {"connect_timeout": min(CONNECT_SECONDS, timeout_seconds), "read_timeout": timeout_seconds,
                "max_pool_connections": threads + 2}  # fmt: skip
    shared: dict[str, Any] = {
        **patience, "retries": {"mode": "standard", "total_max_attempts": TRIES},
        # Its models are of today: Amazon wants a Name that releases before 3.0 do not know.
        "parameter_validation": False,
    }  # fmt: skip
    s3_settings = {"addressing_style": "path", "payload_signing_enabled": not access.s3_url.startswith("https:")}
    ec2 = session.client(
        "ec2", api_version=dialect.api_version, endpoint_url=access.ec2_url or None, verify=access.verify,
        config=Config(signature_version=dialect.ec2_signature, **shared),
    )  # fmt: skip
    s3 = session.client(
        "s3", endpoint_url=access.s3_url or None, verify=access.verify,
        config=Config(signature_version=dialect.s3_signature, s3=None if dialect.is_amazon else s3_settings,
                      # Servers of others do not know the checksums that Amazon has now.
                      request_checksum_calculation="when_required", response_checksum_validation="when_required",
                      **shared),
    )  # fmt: skip
    for operation in ONCE_AT_AMAZON if dialect.is_amazon else NOT_REPEATABLE:
        ec2.meta.events.register_first(f"needs-retry.ec2.{operation}", _end_unsure)
    if not dialect.is_amazon:
        _teach(ec2, s3, dialect)
    return Connection(name, dialect, access, ec2, s3, patience)


def _open_session(access: Access) -> Any:
    core = botocore.session.get_session()
    core.register_component("data_loader", _make_loader())
    return boto3.Session(access.access_key, access.secret_key, access.token or None, region_name=access.region,
                         botocore_session=core)  # fmt: skip


@cache
def _make_loader() -> Any:
    """One for all: reading what botocore knows of EC2 takes half a second."""
    return create_loader()


def _teach(ec2: Any, s3: Any, dialect: Dialect) -> None:
    """Take out of requests what a Eucalyptus does not know."""

    def keep(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
        # Eucalyptus' own field, of which botocore's models know nothing.
        context[ADDRESSING] = params.pop(ADDRESSING, "")

    def fit(params: dict[str, Any], model: Any, context: dict[str, Any], **_: object) -> None:
        body = params["body"]
        if addressing := context.get(ADDRESSING):
            body[ADDRESSING] = addressing
        known = dialect.fields.get(model.name, ANY)
        for field in [field for field in body if known != ANY and not _is_known(field, known)]:
            del body[field]

    def shape(request: AWSRequest, **_: object) -> None:
        # botocore ends every path with a slash, and a service of Eucalyptus has none.
        split = urlsplit(request.url)
        request.url = split._replace(path=split.path.rstrip("/") or "/").geturl()
        if dialect.sends_get:
            _require_short(urlencode(request.data))
            request.method, request.params, request.data = "GET", dict(request.data), b""
            del request.headers["Content-Type"]

    ec2.meta.events.register("provide-client-params.ec2.RunInstances", keep)
    ec2.meta.events.register("before-call.ec2", fit)
    ec2.meta.events.register("before-sign.ec2", shape)
    s3.meta.events.unregister("before-call.s3", add_expect_header)
    if not dialect.lists_encoded:
        s3.meta.events.unregister("before-parameter-build.s3.ListObjects", set_list_objects_encoding_type_url)


def _require_short(query: str) -> None:
    if len(query) > LONGEST_QUERY:
        action = dict(parse_qsl(query)).get("Action", "")
        fact = f"{len(query)} characters of a request, and this release takes an address with {LONGEST_QUERY}"
        raise CloudError(fact, place=action, next_step="ask for less at once: shorter user-data, fewer groups",
                         code="NotSent")  # fmt: skip


def _end_unsure(
    response: tuple[Any, dict[str, Any]] | None, caught_exception: Exception | None, operation: Any, **_: object
) -> None:
    """Raise what leaves it open whether a request was obeyed: botocore would send it again, and get a second one."""
    if caught_exception is not None and not isinstance(caught_exception, NOT_SENT):
        raise caught_exception
    if response is not None and response[0].status_code in UNSURE_STATUSES:
        raise ClientError(response[1], operation.name)


def _is_known(field: str, known: frozenset[str]) -> bool:
    return field in ("Action", "Version") or NUMBERED.sub("", field) in known
