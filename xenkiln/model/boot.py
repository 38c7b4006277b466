"""The `boot` section: what a guest must do under a real Xen before its image is trusted."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from xenkiln.model.fields import Line, Section, check_line, match_shape

Text = Annotated[str, match_shape(r"\S", "some text"), AfterValidator(check_line)]


class BootCommand(Section):
    """A command run over ssh as root; it must end with exit code 0, and print `output` where that is given."""

    run: Text
    output: Line = ""


class Boot(Section):
    """What `boot:NAME` waits for, all of it within the time limit, which counts from the guest's start.

    `console` are texts of which each must come on the console; `login` a login prompt there. `ssh` is an answer to
    the key that is made for this boot and put into root's authorized_keys on the throw-away overlay; `commands`
    and `metadata` (all that the lab's meta-data service told was fetched) need it and so include it.
    """

    time_limit_seconds: Annotated[int, Field(ge=5, le=3600)] = 180
    console: tuple[Text, ...] = ()
    login: bool = True
    ssh: bool = False
    commands: tuple[BootCommand, ...] = ()
    metadata: bool = False
    user_data: Annotated[str, Field(max_length=16384)] = ""

    @model_validator(mode="after")
    def check_expectations(self) -> Boot:
        """Something must be expected, and user-data needs somebody who fetches it."""
        if not (self.console or self.login or self.needs_ssh):
            raise ValueError("nothing is expected: give console, login, ssh, commands or metadata")
        if self.user_data and not self.metadata:
            raise ValueError("user_data goes with metadata: true")
        return self

    @property
    def needs_ssh(self) -> bool:
        """Whether any expectation needs a login over ssh."""
        return self.ssh or bool(self.commands) or self.metadata
