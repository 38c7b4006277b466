"""A real sshd for the tests: its own keys and configuration, on a loopback port, as whoever runs the tests."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from xenkiln.model.domain import Deploy

CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication yes
Subsystem sftp internal-sftp
SetEnv PATH={path} HOME={folder}
"""


@dataclass
class SshHost:
    """A running sshd and what a client needs to reach it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def tools(self) -> Path:
        """A folder in front of the PATH that commands there get."""
        return self.folder / "tools"

    def make_target(self, **changes: object) -> Deploy:
        """Return a deploy section that names this host."""
        values = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "key_file": str(self.folder / "user_key"),
            "known_hosts": str(self.folder / "known_hosts"),
        }
        return Deploy.model_validate(values | changes)

    def list_sessions(self) -> list[int]:
        """Return the process ids of the connections that this sshd serves."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(child) for child in children.split()]

    def stop_sessions(self) -> None:
        """Have every connection stand still, as a machine does that its host has stopped."""
        for session in self.list_sessions():
            for process in (session, *_list_children(session)):
                os.kill(process, signal.SIGSTOP)

    def kill_sessions(self) -> None:
        """Kill every connection, as a crash there would."""
        for session in self.list_sessions():
            for process in (*_list_children(session), session):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def _list_children(process: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return []


def make_key(path: Path) -> str:
    """Make a key pair without a pass phrase; returns the public line."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)
    return path.with_name(f"{path.name}.pub").read_text()


@contextmanager
def run_sshd(folder: Path) -> Iterator[SshHost]:
    """Run an sshd out of `folder` until the block ends."""
    (folder / "tools").mkdir(parents=True)
    host_key = make_key(folder / "host_key")
    (folder / "authorized_keys").write_text(make_key(folder / "user_key"))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd of Debian wants to hide its children
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    path = f"{folder}/tools:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    (folder / "sshd_config").write_text(CONFIG.format(port=port, folder=folder, path=path))
    sshd = shutil.which("sshd", path=path)
    assert sshd, "openssh-server is not installed"
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    host = SshHost(folder, port, process)
    try:
        _wait_until_open(host)
        yield host
    finally:
        host.kill_sessions()
        process.terminate()
        process.wait(20)


def _wait_until_open(host: SshHost) -> None:
    while host.process.poll() is None:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", host.port)):
            return
        time.sleep(0.02)
    raise AssertionError((host.folder / "sshd.log").read_text())


@contextmanager
def run_cutting_proxy(port: int, limit: int) -> Iterator[tuple[int, list[int]]]:
    """Pass one connection on to `port` and cut it after `limit` bytes from the client.

    Yields the port to connect to and a list that holds the bytes passed once it has ended.
    """
    passed: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_pass_on, args=(server, port, limit, passed), daemon=True)
        thread.start()
        yield server.getsockname()[1], passed
    thread.join(20)


def _pass_on(server: socket.socket, port: int, limit: int, passed: list[int]) -> None:
    with suppress(OSError):
        client, _ = server.accept()
        with client, socket.create_connection(("127.0.0.1", port)) as upstream:
            back = threading.Thread(target=_copy, args=(upstream, client, 1 << 62), daemon=True)
            back.start()
            passed.append(_copy(client, upstream, limit))
            for end in (client, upstream):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            back.join(20)


def _copy(source: socket.socket, target: socket.socket, limit: int) -> int:
    count = 0
    with suppress(OSError):
        while count < limit and (data := source.recv(65536)):
            target.sendall(data)
            count += len(data)
    return count
