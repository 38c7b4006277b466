"""Other programs started without a fork of the process that runs the tests, which is large by then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from xenkiln.system import pipelines, processes


@contextmanager
def start_without_fork() -> Iterator[None]:
    """Let subprocess use vfork, as it does where nothing is to be done before exec.

    A fork copies the page tables: 40 ms of a process of 600 MiB, and a cloud in a thread starts openssl for every
    request. What is started this way does not end with the tests, so it must end by itself; that programs end with
    us is shown in tests/system, where this is not used.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (pipelines, processes):
            patch.setattr(module, "begin_child", None)
        yield
