"""Errors reach another process as they are: a task that is to say one is sent to a worker whole."""

from __future__ import annotations

import pickle

import pytest

from xenkiln.errors import CloudError, CommandError, HostError, Problem, RecipeError, XenkilnError

ERRORS = [
    HostError("is full", place="/srv", next_step="make room"),
    CloudError("it refuses", place="cloud mine", code="AuthFailure"),
    RecipeError([Problem("a.yaml", 3, "vm", "is missing"), Problem("a.yaml", 0, "", "is empty")]),
    CommandError("xl list", "ended with 1", last_lines=["no"], log="/srv/log", next_step="look"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_in_a_worker(error: XenkilnError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
