"""Something between a client and its cloud: it cuts, delays, refuses, forgets and lies, as often as it is told."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from urllib.parse import parse_qs

import pytest

from publishing.site import Site
from xenkiln.lab.cloud.request import Answer, Body, Request

ALWAYS = 1 << 30
LARGEST = 64 << 20
PATIENCE_SECONDS = 60


class Asked:
    """A request that has come; its body is read when it is first looked at."""

    def __init__(self, request: Request, ask: Callable[[Request], Answer]) -> None:
        self.method, self.name = request.method, request.path.rpartition("/")[2]
        self.request, self._ask = request, ask

    @cached_property
    def data(self) -> bytes:
        return self.request.body.read(LARGEST)

    @cached_property
    def action(self) -> str:
        """EC2's, "" for a request to S3."""
        query = self.request.query
        if self.method == "POST":
            query = self.data.decode("latin-1")
        return parse_qs(query).get("Action", [""])[0]

    @property
    def is_part(self) -> bool:
        return self.method == "PUT" and ".part." in self.name

    @property
    def is_listing(self) -> bool:
        return self.method == "GET" and not self.action

    def answer(self) -> Answer:
        """The cloud's own."""
        body = Body(io.BytesIO(self.data), len(self.data), lambda: None)
        return self._ask(replace(self.request, body=body))


Judge = Callable[[Asked], bool]
Act = Callable[[Asked], Answer]


@dataclass
class Rule:
    judge: Judge
    act: Act
    times: int
    after: int


@dataclass
class Meddler:
    """Takes the place of a cloud's `answer`. asked: everything that came, in order."""

    cloud: Callable[[Request], Answer]
    rules: list[Rule] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def meddle(self, judge: Judge, act: Act, times: int = 1, after: int = 0) -> None:
        """Act on so many of the requests that the judge picks, after so many were left alone."""
        self.rules.append(Rule(judge, act, times, after))

    def stop(self) -> None:
        """Be honest again, and forget what came."""
        self.rules.clear()
        self.asked.clear()

    def list_parts(self) -> list[str]:
        """The names of all parts that were sent, each as often as it was."""
        return [each.name for each in list(self.asked) if each.is_part]

    def count(self, action: str) -> int:
        return sum(each.action == action for each in list(self.asked))

    def __call__(self, request: Request) -> Answer:
        asked = Asked(request, self.cloud)
        self.asked.append(asked)
        rule = self._choose(asked)
        return rule.act(asked) if rule else asked.answer()

    def _choose(self, asked: Asked) -> Rule | None:
        with self.lock:
            for rule in self.rules:
                if rule.judge(asked):
                    rule.after -= 1
                    if rule.after < 0 <= rule.times + rule.after:
                        return rule
        return None


def meddle_with(site: Site, monkeypatch: pytest.MonkeyPatch) -> Meddler:
    """Put one before the site's cloud."""
    meddler = Meddler(site.server.answer)
    monkeypatch.setattr(site.server, "answer", meddler)
    return meddler


def is_part(asked: Asked) -> bool:
    return asked.is_part


def is_manifest(asked: Asked) -> bool:
    return asked.method == "PUT" and asked.name.endswith(".manifest.xml")


def is_listing(asked: Asked) -> bool:
    return asked.is_listing


def is_first_part(asked: Asked) -> bool:
    return asked.is_part and int(asked.name.rpartition(".")[2]) == 0


def is_action(name: str) -> Judge:
    return lambda asked: asked.action == name


STEPS = (is_part, is_manifest, is_listing, is_action("RegisterImage"), is_action("DescribeImages"))
OLD_AND_NEW = pytest.mark.parametrize("profile", ["1.4", "4.4"])


def cut_in_body(asked: Asked) -> Answer:
    """Hang up when a first piece has come."""
    next(iter(asked.request.body), None)
    raise ConnectionResetError


def cut_after_body(asked: Asked) -> Answer:
    """Take all of it, do nothing, say nothing."""
    assert asked.data is not None
    raise ConnectionResetError


def cut_after_work(asked: Asked) -> Answer:
    """Do what was asked for, and say nothing."""
    assert asked.answer().status < 300
    raise ConnectionResetError


def cut_in_answer(asked: Asked) -> Answer:
    """Do it, promise an answer and send half of it."""
    answer = asked.answer()
    body = answer.body or (answer.file.read() if answer.file else b"")
    half = io.BytesIO(body[: len(body) // 2])
    return Answer(answer.status, b"", {**answer.headers, "Content-Length": str(len(body) + 1)}, half, 0, len(body) + 1)


def refuse(code: str, status: int, message: str = "for a reason of ours") -> Act:
    """A refusal in the form of either service."""

    def act(asked: Asked) -> Answer:
        assert asked.data is not None
        body = (f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors></Response>"
                if asked.action else f"<Error><Code>{code}</Code><Message>{message}</Message></Error>")  # fmt: skip
        return Answer(status, body.encode(), {"Content-Type": "text/xml"})

    return act


def say(body: bytes, status: int = 200) -> Act:
    """That, without doing anything."""

    def act(asked: Asked) -> Answer:
        assert asked.data is not None
        return Answer(status, body, {"Content-Type": "text/xml"})

    return act


def say_after_work(body: bytes, status: int) -> Act:
    """Do it, and say that."""

    def act(asked: Asked) -> Answer:
        assert asked.answer().status < 300
        return say(body, status)(asked)

    return act


def change(old: str, new: str) -> Act:
    """Do it, and say something else: what the expression matches is replaced."""

    def act(asked: Asked) -> Answer:
        answer = asked.answer()
        return replace(answer, body=re.sub(old.encode(), new.encode(), answer.body))

    return act


class Replay:
    """Says again what was said once."""

    def record(self, asked: Asked) -> Answer:
        self.answer = asked.answer()
        return self.answer

    def play(self, asked: Asked) -> Answer:
        return self.answer


def lie_about_etag(asked: Asked) -> Answer:
    answer = asked.answer()
    return replace(answer, headers={**answer.headers, "ETag": '"00000000000000000000000000000000"'})


class Dam:
    """Holds requests back until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def hold(self, asked: Asked) -> Answer:
        self.reached.set()
        self.opened.wait(PATIENCE_SECONDS)
        return asked.answer()

    def hold_answer(self, asked: Asked) -> Answer:
        """Do it, and take as long to say so."""
        answer = asked.answer()
        self.reached.set()
        self.opened.wait(PATIENCE_SECONDS)
        return answer
