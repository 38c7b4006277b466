"""What clouds and the network say when something goes wrong, in words and with what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xenkiln.errors import CloudError

LONGEST_WORDS = 400
CREDENTIAL_CODES = {
    "AuthFailure", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId",
    "InvalidSecurity", "InvalidSignatureException", "SignatureDoesNotMatch", "UnrecognizedClientException",
}  # fmt: skip
CLOCK_CODES = {"RequestTimeTooSkewed", "RequestExpired"}
PERMISSION_CODES = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
OF_BUCKETS = {"GetObject", "ListObjects", "PutObject"}
UNSURE_CODES = {"", "500", "502", "504", "InternalError", "InternalFailure"}
"""After which nobody knows whether the cloud has done what it was asked for; "" is no answer at all."""
QUERY = re.compile(r"""\?[^\s"']+""")
NEXT_STEPS = {
    "BucketAlreadyExists": "the name belongs to another user: choose another bucket in the recipe",
    "TooManyBuckets": "use a bucket that is there already",
    "NoSuchBucket": "doit publish makes the bucket: has somebody removed it meanwhile?",
    "EntityTooLarge": "ask whoever runs the cloud for more room, or make the image smaller",
    "InsufficientInstanceCapacity": "doit cloud:NAME shows what is free; take a smaller instance type, or try later",
    "InstanceLimitExceeded": "doit instances shows what is running; terminate what is not needed",
    "InvalidKeyPair.NotFound": "doit keypair:CLOUD makes it",
    "RequestLimitExceeded": "the cloud is asked too often: try again later",
    "SlowDown": "try again later, or lower `parallel` in the cloud's recipe",
}


@contextmanager
def explain_refusals(place: str) -> Iterator[None]:
    """Raise CloudError for whatever botocore raises inside; `place` says at which cloud, and doing what."""
    # boto3 and all of botocore are for the tasks that talk to a cloud.
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        raise describe_refusal(error, place) from error
    except BotoCoreError as error:
        raise describe_trouble(error, place, may_pass=is_connection_trouble(error)) from error
    except (ResponseParserError, ValueError) as error:
        # It holds the answer, and that may be a private key.
        error.args = ()
        fact = f"the answer cannot be understood ({type(error).__name__})"
        raise CloudError(fact, place=place, next_step="is a cloud's service at that address? If so, its answer was cut"
                         " off: run it again, it goes on from what is there") from error  # fmt: skip


def read_code(error: Any) -> str:
    """A refusal's code: the cloud's word, else the status of its answer."""
    answer = error.response
    return str(answer.get("Error", {}).get("Code") or answer.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))


def describe_refusal(error: Any, place: str, *, may_pass: bool = False) -> CloudError:
    """What a cloud has refused, by botocore's ClientError."""
    code, answer = read_code(error), error.response.get("Error", {})
    # Where a signature is wrong, the lines after the first repeat what was signed, a session's token among it.
    lines = str(answer.get("Message") or error.response.get("Message") or "").strip().splitlines()
    fact = make_plain(": ".join([error.operation_name, code, *lines[:1]]))
    next_step = "see what the cloud says above, and run it again: it goes on from what is there"
    if may_pass:
        next_step = "run it again later: it goes on from what is there"
    elif code in CREDENTIAL_CODES:
        next_step = "check the access key, whether it has expired, its region, and this machine's clock"
    elif code in CLOCK_CODES:
        next_step = "set this machine's clock: it differs from the cloud's by more than that allows"
    elif code in PERMISSION_CODES:
        next_step = f"allow this user the action {error.operation_name} in the cloud's policies"
        if error.operation_name in OF_BUCKETS:
            next_step = f"is the bucket yours? If not, name another in the recipe, else {next_step}"
    elif code in NEXT_STEPS:
        next_step = NEXT_STEPS[code]
    elif "Quota" in code or "LimitExceeded" in code:
        next_step = "delete what is no longer needed there, or ask the cloud for a higher quota"
    return CloudError(fact, place=place, next_step=next_step, code=code)


def is_connection_trouble(error: Exception) -> bool:
    """Whether the network failed, which may pass, and not what it was told."""
    from botocore.exceptions import ConnectionError as NoConnection
    from botocore.exceptions import HTTPClientError, SSLError

    return isinstance(error, HTTPClientError | NoConnection) and not isinstance(error, SSLError)


def describe_trouble(error: Exception, place: str, *, may_pass: bool) -> CloudError:
    """What went wrong without an answer of the cloud."""
    next_step = "check the cloud's settings and the credentials"
    if may_pass:
        next_step = "check the network and the endpoint, and run it again: it goes on from what is there"
    # An address may have the whole request behind it, the user-data among it.
    fact = QUERY.sub("", " ".join(str(error).split()))
    return CloudError(make_plain(fact), place=place, next_step=next_step)


def make_plain(text: str) -> str:
    """Somebody else's text on one line, short, without what a terminal would obey."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain if len(plain) <= LONGEST_WORDS else f"{plain[:LONGEST_WORDS]}..."
