"""The cloud as a process of its own: started, found, killed and ended."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from processes import is_alive

from lab_cloud.bundles import Bundle
from lab_cloud.client import Client, Keys, sign_storage
from lab_cloud.running import Running, serve, wait_for, wait_until
from xenkiln.clouds.eucarc import read_eucarc
from xenkiln.errors import HostError
from xenkiln.lab.cloud import control, programs
from xenkiln.lab.cloud.control import CloudState, find_cloud, start_cloud, stop_clouds
from xenkiln.lab.session import Lab

TESTS = Path(__file__).parents[1]
LAB = Lab(Path("/nowhere/lab"), Path("/nowhere/images"), "ext4")
"""Where guests would run."""


@pytest.fixture
def folder(accounts: dict[str, Path], tmp_path: Path) -> Iterator[Path]:
    """A folder for clouds that have their accounts already; what is started there has ended afterwards."""
    place = tmp_path / "lab" / "cloud"
    for name, path in accounts.items():
        shutil.copytree(path, place / name)
    yield place
    stop_clouds(place)


def start(folder: Path, profile: str) -> CloudState:
    return start_cloud(folder, profile, LAB, lambda _: None)


def make_client(state: CloudState) -> Client:
    told = read_eucarc(state.eucarc, {}).values
    storage, compute = (told[name].removeprefix(state.url) for name in ("S3_URL", "EC2_URL"))
    return Client(state.port, Keys(told["EC2_ACCESS_KEY"], told["EC2_SECRET_KEY"]), storage, compute)


def find_process(folder: Path, profile: str) -> int:
    state: dict[str, Any] = json.loads((folder / profile / control.STATE).read_text())
    return int(state["process"])


def kill(process: int) -> None:
    """At once, as the kernel does where memory runs out."""
    for started in control._started:
        if started.pid == process:
            started.kill()
            started.wait()


def test_it_is_started_once_found_and_ended(folder: Path) -> None:
    assert find_cloud(folder, "1.4") is None
    told: list[str] = []
    state = start_cloud(folder, "1.4", LAB, told.append)
    assert told == ["start a cloud as Eucalyptus 1.4 was"]
    assert (state.profile, state.url) == ("1.4", f"http://127.0.0.1:{state.port}")
    assert find_cloud(folder, "1.4") == state == start_cloud(folder, "1.4", LAB, told.append)
    assert len(told) == 1
    assert find_cloud(folder, "2.0") is None
    assert make_client(state).s3("PUT", "/b-1").code == ""
    assert stop_clouds(folder)
    assert find_cloud(folder, "1.4") is None
    assert not stop_clouds(folder)
    again = start(folder, "1.4")
    assert again == state
    assert make_client(again).s3("GET", "/b-1").code == ""


def test_all_that_start_it_at_once_get_the_same(folder: Path) -> None:
    found: list[CloudState] = []
    threads = [threading.Thread(target=lambda: found.append(start(folder, "2.0"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_a_port_that_is_taken_meanwhile(folder: Path) -> None:
    first = start(folder, "4.4")
    stop_clouds(folder)
    with socket.create_server(("127.0.0.1", first.port)):
        second = start(folder, "4.4")
        assert second.port != first.port
        assert make_client(second).ec2("DescribeImages").code == ""
        assert str(second.port) in second.eucarc.read_text()


@pytest.mark.parametrize("name", ["cloud/account.json", "index.sqlite3"])
def test_one_that_cannot_start_says_why(folder: Path, name: str) -> None:
    (folder / "2.0" / name).write_text("{}" * 9999)
    with pytest.raises(HostError, match=r"does not start: it ended with code 1\n.*is damaged") as caught:
        start(folder, "2.0")
    assert f"{folder}/2.0/{name}" in caught.value.fact
    assert "Traceback" not in caught.value.fact
    assert caught.value.place == str(folder / "2.0")
    assert find_cloud(folder, "2.0") is None


@pytest.mark.parametrize("words", [[], ["x", "2.0"], ["x", "5.0", "lab", "images", "ext4"]])
def test_how_it_is_called(words: list[str], tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", control.MODULE, *words], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: python -m xenkiln.lab.cloud FOLDER 1.4|2.0|3.4|4.4" in done.stderr


def test_two_do_not_share_a_folder(folder: Path) -> None:
    state = start(folder, "2.0")
    words = [sys.executable, "-m", control.MODULE, str(folder), "2.0", str(LAB.folder), str(LAB.images), LAB.modules]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"the cloud in {folder}/2.0 is in use by process {find_process(folder, '2.0')}" in done.stderr
    assert find_cloud(folder, "2.0") == state
    assert make_client(state).ec2("DescribeImages").code == ""


def test_only_loopback_hears_it(folder: Path) -> None:
    port = start(folder, "2.0").port
    listening = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    assert [local for local, _, state in listening if state == "0A" and local.endswith(f":{port:04X}")] \
        == [f"0100007F:{port:04X}"]  # fmt: skip
    six = Path("/proc/net/tcp6")
    assert f":{port:04X} " not in (six.read_text() if six.exists() else "")


def test_killed_in_the_midst_of_an_upload(folder: Path) -> None:
    state = start(folder, "2.0")
    client = make_client(state)
    client.s3("PUT", "/b-1")
    assert client.s3("PUT", "/b-1/whole", b"whole").code == ""
    assert client.s3("PUT", "/b-1/replaced", b"before").code == ""
    target = f"{client.storage}/b-1/replaced"
    headers = {"Date": formatdate(usegmt=True), "Content-Length": str(64 << 20)}
    headers["Authorization"] = sign_storage(client.keys, "PUT", target, headers)
    connection = http.client.HTTPConnection("127.0.0.1", client.port)
    connection.putrequest("PUT", target)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(bytes(1 << 20))
    objects = folder / "2.0/objects"
    wait_until(lambda: any(path.stat().st_size >= 1 << 20 for path in objects.glob("*.partial")))
    process = find_process(folder, "2.0")
    kill(process)
    connection.close()
    assert find_cloud(folder, "2.0") is None
    again = make_client(start(folder, "2.0"))
    assert find_process(folder, "2.0") != process
    assert again == client
    assert again.s3("GET", "/b-1/whole").body == b"whole"
    assert again.s3("GET", "/b-1/replaced").body == b"before"
    assert len(list(objects.iterdir())) == 2


def test_it_ends_when_it_is_told_to_though_somebody_is_uploading(folder: Path) -> None:
    client = make_client(start(folder, "2.0"))
    client.s3("PUT", "/b-1")
    with socket.create_connection(("127.0.0.1", client.port)) as opened:
        opened.sendall(b"PUT /services/Walrus/b-1/x HTTP/1.1\r\nContent-Length: 5\r\n")
        process = find_process(folder, "2.0")
        assert stop_clouds(folder)
    wait_until(lambda: not is_alive(process))


def test_it_is_ended_though_its_folder_is_gone(folder: Path) -> None:
    start(folder, "2.0")
    process = find_process(folder, "2.0")
    os.kill(process, 0)
    shutil.rmtree(folder / "2.0")
    (folder / "2.0").mkdir()
    assert stop_clouds(folder)
    wait_until(lambda: not is_alive(process))


def test_one_that_is_started_meanwhile_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(folder, "2.0")
    first = find_process(folder, "2.0")
    signal_all = programs.signal_all

    def start_another(descriptors: list[int], number: signal.Signals) -> None:
        signal_all(descriptors, number)
        wait_until(lambda: not control.is_running(folder / "2.0"))
        start(folder, "2.0")

    monkeypatch.setattr(programs, "signal_all", start_another)
    assert stop_clouds(folder)
    wait_until(lambda: not is_alive(first))
    assert find_cloud(folder, "2.0")


def test_it_ends_when_its_terminal_goes(folder: Path) -> None:
    state = start(folder, "2.0")
    os.kill(find_process(folder, "2.0"), signal.SIGHUP)
    wait_until(lambda: find_cloud(folder, "2.0") is None)
    assert state.eucarc.exists()


SERVER = """
import sys, time
from pathlib import Path
from lab_cloud.running import serve
with serve(Path(sys.argv[1]), "2.0") as running:
    print(running.client.port, flush=True)
    time.sleep(600)
"""


def test_guests_do_not_survive_a_cloud_that_is_killed(folder: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", SERVER, str(folder / "2.0")]
    account = json.loads((folder / "2.0/cloud/account.json").read_text())
    keys = Keys(account["access"], account["secret"])
    with subprocess.Popen(words, cwd=TESTS, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            client = Client(int(server.stdout.readline()), keys, "/services/Walrus", "/services/Eucalyptus")
            instance = launch_something(client, folder / "2.0", tmp_path)
            wait_for(client, instance, "running")
        finally:
            server.kill()
    status = folder / "2.0/instances" / instance / "status.json"
    guest = int(json.loads(status.read_text())["process"])
    wait_until(lambda: not is_alive(guest))
    with serve(folder / "2.0", "2.0") as again:
        shown = again.client.ec2("DescribeInstances", {"InstanceId.1": instance})
        assert shown.text("reservationSet/item/instancesSet/item/instanceState/name") == "terminated"


def launch_something(client: Client, cloud: Path, scratch: Path) -> str:
    """An instance of an image that is not more than it must be."""
    made = Running(SimpleNamespace(folder=cloud, account=SimpleNamespace(number="0" * 12)), client)  # type: ignore[arg-type]
    kernel = Bundle(made, "vmlinuz", b"kernel", "kernel", kernel="true").publish(scratch / "kernel")
    return client.run(Bundle(made, "root", b"root", kernel=kernel).publish(scratch / "root"))
