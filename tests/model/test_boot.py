"""The boot section's own refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from xenkiln.model.boot import Boot


def read_boot(**settings: Any) -> Boot:
    return Boot.model_validate_json(json.dumps(settings))


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"login": False}, "nothing is expected: give console, login, ssh, commands or metadata"),
        ({"login": False, "console": [], "commands": []}, "nothing is expected"),
        ({"user_data": "#!/bin/sh\n"}, "user_data goes with metadata: true"),
        ({"user_data": "x", "ssh": True, "commands": [{"run": "id"}]}, "user_data goes with metadata: true"),
        ({"time_limit_seconds": 4}, "greater than or equal to 5"),
        ({"time_limit_seconds": 3601}, "less than or equal to 3600"),
        ({"time_limit_seconds": "90"}, "valid integer"),
        ({"time_limit_seconds": 90.5}, "valid integer"),
        ({"console": [""]}, "should match pattern"),
        ({"console": [" "]}, "should match pattern"),
        ({"console": ["two\nlines"]}, "must be a single line"),
        ({"console": ["nul\0"]}, "must be a single line"),
        ({"console": "tiny: ready"}, "valid (tuple|array)"),
        ({"commands": ["id"]}, "should be an object"),
        ({"commands": [{"run": ""}]}, "should match pattern"),
        ({"commands": [{"run": "id\nreboot"}]}, "must be a single line"),
        ({"commands": [{"run": "id", "output": "a\nb"}]}, "must be a single line"),
        ({"commands": [{"output": "x"}]}, "Field required"),
        ({"commands": [{"run": "id", "code": 1}]}, "not permitted"),
        ({"login": "yes"}, "valid boolean"),
        ({"ssh": 1}, "valid boolean"),
        ({"timeout": 5}, "not permitted"),
    ],
)
def test_what_cannot_be_waited_for_is_refused(settings: dict[str, Any], fact: str) -> None:
    with pytest.raises(ValidationError, match=fact) as caught:
        read_boot(**settings)
    assert caught.value.error_count() == 1


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"login": False, "console": ["x"]},
        {"login": False, "ssh": True},
        {"login": False, "metadata": True, "user_data": "#!/bin/sh\nreboot\n"},
        {"login": False, "commands": [{"run": "id"}]},
        {"time_limit_seconds": 5},
        {"time_limit_seconds": 3600},
    ],
)
def test_one_expectation_is_enough(settings: dict[str, Any]) -> None:
    boot = read_boot(**settings)
    assert Boot.model_validate_json(boot.model_dump_json()) == boot


def test_by_default_a_login_prompt_is_waited_for_and_nothing_else() -> None:
    boot = Boot()
    assert (boot.login, boot.console, boot.needs_ssh, boot.time_limit_seconds) == (True, (), False, 180)


@pytest.mark.parametrize("settings", [{"ssh": True}, {"metadata": True}, {"commands": [{"run": "id"}]}])
def test_what_is_looked_for_inside_needs_ssh(settings: dict[str, Any]) -> None:
    assert read_boot(**settings).needs_ssh


def test_a_section_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Boot().login = False  # type: ignore[misc]
