"""Signatures that botocore does not have: EC2's query version 1, and S3's HMAC over the full path of Walrus."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult

from botocore.auth import AUTH_TYPE_MAPS, BaseSigner, HmacV1Auth

if TYPE_CHECKING:
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

QUERY_V1, WALRUS = "query-v1", "walrus"


class QueryV1Auth(BaseSigner):  # type: ignore[misc]  # botocore has no types
    """Names and values one after the other, in the order of the names without regard to case (EC2 API 2008-12-01)."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials

    def add_auth(self, request: AWSRequest) -> None:
        """Sign the parameters, which are in the body of a POST and in the query of a GET."""
        parameters: dict[str, Any] = request.data or request.params
        parameters.pop("Signature", None)  # of an earlier try
        parameters |= {
            "AWSAccessKeyId": self.credentials.access_key,
            "SignatureVersion": "1",
            "Timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        text = "".join(f"{name}{parameters[name]}" for name in sorted(parameters, key=str.lower))
        digest = hmac.new(self.credentials.secret_key.encode(), text.encode(), hashlib.sha1).digest()
        parameters["Signature"] = base64.b64encode(digest).decode()


class WalrusAuth(HmacV1Auth):  # type: ignore[misc]  # as above
    """Walrus up to 3.2 knows a resource by its whole path; later ones try that first."""

    def canonical_resource(self, split: SplitResult, auth_path: str | None = None) -> str:  # noqa: ARG002  # botocore's own
        """The path as it is in the request: botocore would leave /services/Walrus out."""
        return str(super().canonical_resource(split))


AUTH_TYPE_MAPS |= {QUERY_V1: QueryV1Auth, WALRUS: WalrusAuth}
