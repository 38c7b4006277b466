"""What one place says of who the user is at a cloud: each setting, what it is called there, and what is missing."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, NoReturn, TypeVar

from xenkiln.errors import HostError

Role = Literal[
    "access_key", "secret_key", "token", "ec2_url", "s3_url", "ebs_url", "region", "verify",
    "account", "private_key", "certificate", "cloud_certificate",
]  # fmt: skip
T = TypeVar("T")

SPOKEN: dict[Role, str] = {
    "access_key": "access key", "secret_key": "secret key", "token": "session token", "ec2_url": "URL of EC2",
    "s3_url": "URL of S3", "ebs_url": "URL of EBS", "region": "region", "verify": "word about certificates",
    "account": "account number", "private_key": "private key for bundles", "certificate": "certificate for bundles",
    "cloud_certificate": "certificate of the cloud",
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A value, and where it was found: a variable, or an option with its section, and the file that it is in."""

    value: str = field(repr=False)
    label: str


@dataclass(frozen=True)
class Source:
    """The one place that everything about a user comes from.

    words: the place, as one speaks of it. names: what it calls each setting; one that it cannot have is left out.
    absence: how one says there that something is missing. unused: what the environment has, and may not add. unknown:
    what is there, and only a shell could tell: which variable, in which line.
    """

    words: str
    settings: Mapping[Role, Setting]
    names: Mapping[Role, str]
    absence: str
    advice: str
    unused: frozenset[Role] = frozenset()
    unknown: Mapping[Role, str] = field(default_factory=dict)

    def get(self, role: Role) -> str:
        """Its value, empty where there is none."""
        return self.settings[role].value if role in self.settings else ""

    def name(self, role: Role) -> str:
        """Where it was found, else where it would be."""
        return self.settings[role].label if role in self.settings else self.names.get(role, SPOKEN[role])

    def describe_missing(self, role: Role) -> HostError:
        """That it is not there, with the variables or options looked at."""
        if role not in self.names:
            return HostError(f"there is no {SPOKEN[role]} in {self.words}", place="credentials",
                             next_step="name an eucarc or a region of euca2ools.ini in the cloud's recipe")  # fmt: skip
        if role in self.unknown:
            return HostError("is set to what only a shell could tell, and no eucarc is run", place=self.unknown[role],
                             next_step="write the value itself there")  # fmt: skip
        if role in self.unused:
            fact = (f"{self.names[role]} is not set in {self.words}; the environment has it, but not all that belongs"
                    " to it, and two clouds are never mixed")  # fmt: skip
        else:
            fact = f"{self.names[role]} {self.absence}"
        return HostError(fact, place="credentials", next_step=self.advice)


class Problems:
    """What is missing or wrong, gathered so that all of it is told at once."""

    def __init__(self) -> None:
        self.found: list[HostError] = []

    def attempt(self, find: Callable[[], T]) -> T | None:
        """What `find` finds; None where it raises a HostError, which is kept."""
        try:
            return find()
        except HostError as problem:
            self.found.append(problem)
            return None

    def refuse(self) -> NoReturn:
        """Raise one error that says all of them."""
        if len(self.found) == 1:
            raise self.found[0]
        lines = [f"{problem.place}: {problem.fact}" if problem.place else problem.fact for problem in self.found]
        steps = dict.fromkeys(problem.next_step for problem in self.found if problem.next_step)
        raise HostError("\n  - ".join([f"{len(lines)} things are missing or wrong", *lines]), place="credentials",
                        next_step="; ".join(steps))  # fmt: skip


def expand_path(text: str, place: str) -> Path:
    """A path with the user's home in it; HostError where there is no such home."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise HostError("begins with the home of somebody who is not known here", place=place,
                        next_step="write it out from /") from None  # fmt: skip


def read_file(path: Path, place: str, next_step: str) -> bytes:
    """A file of credentials; HostError where it cannot be read."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        fact = error.strerror if isinstance(error, OSError) else "no file can have this name"
        raise HostError(f"cannot be read: {fact}", place=place, next_step=next_step) from None


@cache
def warn_of_readers(path: Path) -> None:
    """Say once that a file with a secret can be read by others: ssh would not even take it."""
    try:
        mode, folder = path.stat().st_mode, path.parent.stat().st_mode
    except (OSError, ValueError):
        return
    if stat.S_ISREG(mode) and mode & 0o044 and folder & 0o011:
        print(f"credentials  {path} can be read by others: chmod 600 {path}")
