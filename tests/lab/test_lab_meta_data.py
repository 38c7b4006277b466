"""The lab's meta-data: every key of the article, its service, and the real client asking it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest
from guest.cloud import VALUES
from guest.guests import TOOLS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xenkiln.lab.guest import list_bodies
from xenkiln.lab.meta_data import NOT_YET, make_id, make_meta_data
from xenkiln.system.layout import PROJECT

SCRIPT = PROJECT / "scripts/host/lab/meta-data-service"
CLIENT = PROJECT / "scripts/guest/meta-data"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPx0 boot"
USER_DATA = "Content-Type: multipart/mixed\n--\nümlaut\n"
ADDRESS = "127.0.0.1"
TOLD = make_meta_data("tiny", ADDRESS, KEY, USER_DATA)
KEY_OF_KEYS = "meta-data/public-keys/0/openssh-key"


def load_service() -> Any:
    loader = SourceFileLoader("meta_data_service", str(SCRIPT))
    loader.set_data = lambda *_, **__: None  # type: ignore[method-assign]  # no folder of byte code beside it
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


SERVICE = load_service()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As dom0 has it: one folder for the guest's address, and beside it another guest's."""
    top = tmp_path_factory.mktemp("meta-data")
    for path, body in list_bodies(TOLD).items():
        place = top / ADDRESS / "latest" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(body.encode())
    (top / "10.0.2.51/latest").mkdir(parents=True)
    (top / "10.0.2.51/latest/user-data").write_text("another's")
    (top / "secret").write_text("nobody's")
    return top


def ask(folder: Path, *parts: bytes, guest: str = ADDRESS) -> tuple[str, bytes]:
    """Status and body of what the service answers to the parts of a request."""
    ours, its = socket.socketpair()
    with ours, its:
        for part in parts:
            ours.sendall(part)
        ours.shutdown(socket.SHUT_WR)
        SERVICE.answer(its, guest, folder)
        its.close()
        data = b"".join(iter(lambda: ours.recv(65536), b""))
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    if data:
        assert f"Content-Length: {len(body)}" in lines
        assert "Connection: close" in lines
    return lines[0].removeprefix("HTTP/1.0 "), body


def get(folder: Path, path: str, guest: str = ADDRESS) -> tuple[str, bytes]:
    return ask(folder, f"GET {path} HTTP/1.0\r\nHost: 169.254.169.254\r\n\r\n".encode(), guest=guest)


MISSING = ("404 Not Found", SERVICE.NOT_FOUND)


def test_every_key_of_the_article_is_told() -> None:
    told = {path.removeprefix("meta-data/") for path in make_meta_data("tiny", "10.0.2.50", "")}
    assert told == VALUES.keys()
    assert {name for name, value in VALUES.items() if value == NOT_YET} == {
        path.removeprefix("meta-data/") for path, body in TOLD.items() if body == NOT_YET
    }


def test_the_guests_own_address_and_key_are_told() -> None:
    told = make_meta_data("tiny", "10.0.2.50", f"{KEY}\n")
    addresses = [f"meta-data/{name}" for name in VALUES if VALUES[name] in ("10.0.2.3", "192.168.1.3")]
    assert {told[path] for path in addresses} == {"10.0.2.50"}
    assert told[KEY_OF_KEYS] == f"{KEY}\n"
    assert told["meta-data/public-keys/index"] == "0=lab_key"
    assert "user-data" not in told
    assert not [path for path in make_meta_data("tiny", "10.0.2.50", "") if "public-keys" in path]


def test_identifiers_have_the_clouds_form_and_are_the_names_own() -> None:
    kinds = ("i", "emi", "eki", "eri", "r")
    assert len({make_id(kind, name) for kind in kinds for name in ("tiny", "debian-12")}) == 10
    for kind in kinds:
        assert make_id(kind, "tiny") == make_id(kind, "tiny")
        prefix, _, digits = make_id(kind, "tiny").partition("-")
        assert (prefix, len(digits), set(digits) <= set("0123456789ABCDEF")) == (kind, 8, True)


@pytest.mark.parametrize("path", sorted(TOLD))
def test_each_value_is_answered(folder: Path, path: str) -> None:
    assert get(folder, f"/latest/{path}") == ("200 OK", TOLD[path].encode())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/latest/meta-data/public-keys", b"0=lab_key"),
        ("/latest/meta-data/public-keys/", b"0=lab_key"),
        ("/latest/meta-data/public-keys/0/", b"openssh-key"),
        ("/latest/meta-data/placement/", b"availability-zone"),
        ("/latest/meta-data/ami-id?x=1", TOLD["meta-data/ami-id"].encode()),
    ],
)
def test_a_folder_is_answered_by_its_index(folder: Path, path: str, body: bytes) -> None:
    assert get(folder, path) == ("200 OK", body)


def test_all_keys_are_listed(folder: Path) -> None:
    status, body = get(folder, "/latest/meta-data/")
    listed = {line.partition("/")[0] for line in body.decode().splitlines()}
    assert (status, listed) == ("200 OK", {name.partition("/")[0] for name in VALUES} | {"public-keys"})


HOSTILE = [
    "/latest/../../secret", "/latest/../../10.0.2.51/latest/user-data", "/../secret", "..",
    "/latest/%2e%2e/%2e%2e/secret", "/%2e%2e/secret", "//secret", "/secret",
    "/latest/meta-data/ami-id/x", "/latest/nothing", "/", "/latest", "",
    "/latest/meta-data/ami-id\0", "/latest/" + "a" * 300, "/" + "a/" * 3000, "http://169.254.169.254/latest/user-data",
    "/latest/user-data/..", "/\xff\xfe",
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE)
def test_what_is_not_there_or_not_the_guests_is_not_found(folder: Path, path: str) -> None:
    assert get(folder, path) == MISSING


@pytest.mark.parametrize(
    "request_line", [b"POST /latest/user-data HTTP/1.0", b"HEAD /latest/user-data HTTP/1.0", b"get /latest/user-data x",
                     b"GET /latest/user-data", b"GET  /latest/user-data HTTP/1.0", b"", b"\xff\x00"],
)  # fmt: skip
def test_other_methods_and_forms_are_not_answered_with_data(folder: Path, request_line: bytes) -> None:
    assert ask(folder, request_line + b"\r\n\r\n") == MISSING


def test_a_request_may_come_in_parts(folder: Path) -> None:
    parts = (b"GET /latest/user", b"-data HTTP/1.0\r", b"\nHost: x\r\n", b"\r\n")
    assert ask(folder, *parts) == ("200 OK", USER_DATA.encode())


def test_a_request_without_an_end_is_not_waited_for_for_ever(folder: Path) -> None:
    longest = SERVICE.LONGEST_REQUEST
    assert ask(folder, b"GET /latest/user-data HTTP/1.0\r\nX: ".ljust(longest, b"y"))[0] == "200 OK"
    assert ask(folder, b"GET /".ljust(longest, b"a")) == MISSING
    assert ask(folder, b"GET /latest/user-data HTTP/1.0\r\n") == ("", b"")


def test_a_guest_that_is_unknown_is_told_nothing(folder: Path) -> None:
    assert get(folder, "/latest/user-data", "10.0.2.59") == MISSING
    assert get(folder, "/latest/user-data", "10.0.2.51") == ("200 OK", b"another's")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["..", ".", "", "latest", "10.0.2.51", "user-data", "secret", "%2e%2e", "index"])))
def test_no_path_leads_out_of_the_guests_folder(folder: Path, parts: list[str]) -> None:
    assert get(folder, "/" + "/".join(parts))[1] not in (b"another's", b"nobody's")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The real service on a free port of loopback; it serves for ever, in a thread that nobody waits for."""
    made: list[socket.socket] = []
    ready = threading.Event()

    class Listener(socket.socket):
        def listen(self, backlog: int = 64) -> None:
            super().listen(backlog)
            made.append(self)
            ready.set()

    patch = pytest.MonkeyPatch()
    patch.setattr(SERVICE.socket, "socket", Listener)
    threading.Thread(target=serve_until_closed, args=(folder,), daemon=True).start()
    assert ready.wait(5)
    patch.undo()
    yield f"http://{ADDRESS}:{made[0].getsockname()[1]}"
    made[0].shutdown(socket.SHUT_RDWR)
    made[0].close()


def serve_until_closed(folder: Path) -> None:
    try:
        SERVICE.serve(ADDRESS, 0, str(folder))
    except OSError:
        return  # its socket is closed: the tests are over


@pytest.fixture
def ask_as_guest(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run the client in a folder that stands for a guest."""
    downloader = next((tool for tool in ("curl", "wget", "busybox") if shutil.which(tool)), None)
    assert downloader, "this host has no curl, no wget and no busybox"
    (tmp_path / "bin").mkdir()
    for name in (*TOOLS, downloader):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))

    def run(address: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": str(tmp_path / "bin"), "META_DATA_ADDRESSES": address, "META_DATA_SECONDS": "0",
            "META_DATA_CONF": str(tmp_path / "none"), "META_DATA_RESULTS": str(tmp_path / "run"),
            "META_DATA_STATE": str(tmp_path / "state"), "META_DATA_HOME": str(tmp_path / "root"),
            "META_DATA_LOG": str(tmp_path / "log"),
        }  # fmt: skip
        return subprocess.run(["/bin/sh", CLIENT], env=environment, capture_output=True, text=True, timeout=50)

    return run


def test_the_guests_client_fetches_everything(
    address: str, ask_as_guest: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = ask_as_guest(address)
    instance = TOLD["meta-data/instance-id"]
    assert (done.stdout, done.stderr) == (
        f"meta-data: fetched 18 values and 1 ssh keys of instance {instance} from {address}\n", ""
    )  # fmt: skip
    wanted = {path: body.strip() for path, body in TOLD.items() if not path.endswith("/index")}
    found = {str(path.relative_to(tmp_path / "run")): path.read_text().strip()
             for path in (tmp_path / "run").rglob("*") if path.is_file()}  # fmt: skip
    assert found == wanted
    assert (tmp_path / "root/.ssh/authorized_keys").read_text() == f"{KEY}\n"


def test_a_guest_that_hangs_up_does_not_end_the_service(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    for said in (b"", b"GET /latest", b"GET /latest/user-data HTTP/1.0\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(said)
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"GET /latest/user-data HTTP/1.0\r\n\r\n")
        assert connection.makefile("rb").read().endswith(USER_DATA.encode())
