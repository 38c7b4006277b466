"""All that a user, a log or a trace of calls would show of an error."""

from __future__ import annotations

import pytest

from xenkiln.errors import HostError


def list_told(
    caught: pytest.ExceptionInfo[HostError], log: pytest.LogCaptureFixture, output: pytest.CaptureFixture[str]
) -> list[str]:
    trace = str(caught.getrepr(style="short"))
    return [str(caught.value), repr(caught.value), trace, log.text, *output.readouterr()]
