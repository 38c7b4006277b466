"""Mirrors whose answers are none: each is given up in time, the next one is asked, and the build ends with words."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path

import pytest
from repositories import Answer, Mirror, serve

from xenkiln.installers import downloads
from xenkiln.installers.downloads import Failure, Wanted

DATA = b"a package" * 1000
TIMEOUT_SECONDS = 0.4


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "BACKOFF_SECONDS", (0.01,))
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/a.rpm").write_bytes(DATA)
    return tmp_path / "mirror"


def fetch(target: Path, *mirrors: str) -> list[Failure]:
    urls = tuple(f"{mirror}a.rpm" for mirror in mirrors)
    wanted = Wanted(urls, target, "sha256", hashlib.sha256(DATA).hexdigest(), len(DATA))
    return downloads.fetch_all([wanted], lambda done: None)


def lead_to(place: str) -> Answer:
    def answer(mirror: Mirror, path: str) -> bool:
        mirror.send_response(302)
        mirror.send_header("Location", place)
        mirror.end_headers()
        return True

    return answer


def send_forever(head: bytes, piece: bytes, pause_seconds: float) -> Answer:
    def answer(mirror: Mirror, path: str) -> bool:
        mirror.wfile.write(head)
        deadline = time.monotonic() + 20 * TIMEOUT_SECONDS
        with suppress(OSError):
            while time.monotonic() < deadline:
                mirror.wfile.write(piece)
                time.sleep(pause_seconds)
        mirror.close_connection = True
        return True

    return answer


STRANGE: dict[str, Answer] = {
    "no name": lead_to("http://a..b/x.rpm"),
    "no address": lead_to("http://[::1/x.rpm"),
    "no port": lead_to("http://127.0.0.1:x/x.rpm"),
    "another protocol": lead_to("ftp://127.0.0.1/x.rpm"),
    "the host's files": lead_to("file:///etc/passwd"),
    "to itself": lead_to("/a.rpm"),
    "endless head": send_forever(b"HTTP/1.0 200 OK\r\nX: ", b"a", TIMEOUT_SECONDS / 8),
    "endless chunk": send_forever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0", TIMEOUT_SECONDS / 8),
    "endless beginning": send_forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 0),
    "endless redirect": send_forever(b"HTTP/1.0 302 Found\r\nLocation: /b\r\n\r\n", bytes(1 << 16), 0),
    "a bad chunk": send_forever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc", b"", 1),
}


@pytest.mark.parametrize("answer", STRANGE.values(), ids=STRANGE.keys())
def test_the_next_mirror_is_asked_and_without_one_it_ends(answer: Answer, folder: Path, tmp_path: Path) -> None:
    with serve(folder, answer) as bad, serve(folder) as good:
        started = time.monotonic()
        assert fetch(tmp_path / "one", bad, good) == []
        (failure,) = fetch(tmp_path / "two", bad)
        seconds = time.monotonic() - started
    assert (tmp_path / "one").read_bytes() == DATA
    assert failure.reasons
    assert not failure.gone
    assert seconds < 15 * TIMEOUT_SECONDS


def test_a_redirect_to_the_file_is_followed(folder: Path, tmp_path: Path) -> None:
    with serve(folder) as good, serve(folder, lead_to(f"{good}a.rpm")) as leading:
        assert fetch(tmp_path / "one", leading) == []


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), MemoryError()], ids=repr)
def test_what_a_thread_runs_into_reaches_the_build(
    error: Exception, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(wanted: Wanted) -> None:
        raise error

    monkeypatch.setattr(downloads, "fetch_file", fail)
    with pytest.raises(type(error)):
        fetch(tmp_path / "one", "http://127.0.0.1/")
