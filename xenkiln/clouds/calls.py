"""Calls to a cloud: which failures are worth another try, and how long to wait before it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from xenkiln.clouds.refusals import describe_refusal, describe_trouble, is_connection_trouble, read_code

Answer = TypeVar("Answer")

TRANSIENT_CODES = {
    "ConcurrentLimitExceededException", "InternalError", "InternalFailure", "InternalServerException",
    "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "RequestTimeout",
    "RequestTimeoutException", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException",
    "TooManyRequestsException", "Unavailable",
}  # fmt: skip
MOST_DOUBLINGS = 30
SERVER_ERROR, TOO_MANY_REQUESTS = 500, 429


@dataclass(frozen=True)
class Patience:
    """How often a call is made before its failure is believed, and the pauses between, which double."""

    tries: int = 12
    first_seconds: float = 0.25
    longest_seconds: float = 30.0

    def pause_seconds(self, failures: int) -> float:
        """How long to wait after so many failures; never twice the same, so that threads do not come back as one."""
        whole = min(self.longest_seconds, self.first_seconds * 2.0 ** min(failures - 1, MOST_DOUBLINGS))
        return whole * random.uniform(0.5, 1)  # noqa: S311  # no secret


PATIENCE = Patience()
"""Two minutes at most: snapshots were seen to be unknown for as long after they had been started (coldsnap)."""


def never(_code: str, _answer: dict[str, Any]) -> bool:
    """No further failures are worth another try."""
    return False


def say_nothing(_trouble: str) -> None:
    """Nobody wants to hear of failures that passed."""


def call_patiently(
    action: Callable[[], Answer],
    place: str,
    patience: Patience,
    *,
    note: Callable[[str], object] = say_nothing,
    pause: Callable[[float], object] = time.sleep,
    is_transient: Callable[[str, dict[str, Any]], bool] = never,
) -> Answer:
    """The answer to a call through a client of boto3; a failure that may pass is tried again.

    `note` is told of each such failure; a `pause` that returns something true ends the trying. `is_transient` takes
    the code and the whole of a refusal, and knows what else may pass with this call. Raises CloudError.
    """
    # boto3 and all of botocore are for the tasks that talk to a cloud.
    from botocore.exceptions import BotoCoreError, ClientError

    failures = 0
    while True:
        try:
            return action()
        except ClientError as error:
            failures += 1
            code = read_code(error)
            may_pass = _is_transient_answer(code, error.response) or is_transient(code, error.response)
            failure = describe_refusal(error, place, may_pass=may_pass)
        except BotoCoreError as error:
            failures += 1
            may_pass = is_connection_trouble(error)
            failure = describe_trouble(error, place, may_pass=may_pass)
        if not may_pass or failures >= patience.tries:
            raise failure
        note(failure.fact)
        if pause(patience.pause_seconds(failures)):
            raise failure


def _is_transient_answer(code: str, answer: dict[str, Any]) -> bool:
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code in TRANSIENT_CODES or status >= SERVER_ERROR or status == TOO_MANY_REQUESTS
