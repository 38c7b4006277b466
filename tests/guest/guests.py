"""Folders that stand for guests: each with the shell and the one downloader that some system has."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/guest/meta-data"
TOOLS = ("awk", "cat", "chmod", "cp", "find", "grep", "head", "mkdir", "mktemp", "mv", "rm", "sed", "sh", "sleep",
         "timeout", "touch", "tr", "wc")  # fmt: skip

# Takes exactly the options that the client uses; anything else ends with an error, as a real one would. Its wget is
# one of before 1.15, which cannot PUT.
STAND_IN = """#!{python} -IS
import socket, sys
*options, url = sys.argv[1:]
method, headers = "GET", ["Host: " + url.split("/")[2]]
more = options[len({options!r}):]
if more[:3] == ["-X", "PUT", "-H"] and len(more) == 4:
    method = "PUT"
    headers.append(more[3])
elif more == ["-K", "session"]:
    option, equals, header = open("session").read().split()
    assert (option, equals) == ("header", "=")
    headers.append(header)
elif more:
    sys.exit(f"unknown arguments: {{sys.argv[1:]}}")
if options[:len({options!r})] != {options!r} or not url.startswith("http://") or (more and "wget" in sys.argv[0]):
    sys.exit(f"unknown arguments: {{sys.argv[1:]}}")
host, _, path = url.removeprefix("http://").partition("/")
name, _, port = host.partition(":")
try:
    with socket.create_connection((name, int(port or 80)), timeout=3) as connection:
        connection.sendall("\\r\\n".join([f"{{method}} /{{path}} HTTP/1.0", *headers, "", ""]).encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
except OSError:
    sys.exit(7)
head, _, body = answer.partition(b"\\r\\n\\r\\n")
if head.split()[1] != b"200":
    sys.exit(22 if "curl" in sys.argv[0] else 1)
sys.stdout.buffer.write(body)
"""
DOWNLOADERS = {"curl": ["-q", "-s", "-f", "-m", "3"], "wget": ["-q", "-O", "-"]}


@dataclass
class Guest:
    """A folder that stands for a guest, and the shell and downloader that it has."""

    folder: Path
    shell: str
    environment: dict[str, str]

    @property
    def keys(self) -> Path:
        return self.folder / "root/.ssh/authorized_keys"

    @property
    def values(self) -> Path:
        return self.folder / "run/meta-data"

    def ask(self, address: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        result = self.ask_bytes(address, *words, **more)
        return subprocess.CompletedProcess(
            result.args, result.returncode, result.stdout.decode(), result.stderr.decode()
        )

    def ask_bytes(self, address: str, *words: str, **more: str) -> subprocess.CompletedProcess[bytes]:
        environment = {**self.environment, "META_DATA_ADDRESSES": address, **more}
        return subprocess.run([self.shell, str(SCRIPT), *words], env=environment, capture_output=True, timeout=50)


def list_kinds() -> list[str]:
    """DOWNLOADER, then how it is special; the last one is quick and real."""
    kinds = ["curl stand-in", "wget stand-in", "wget stand-in beside busybox"]
    kinds += [f"{tool} under bash" for tool in ("curl",) if shutil.which(tool)]
    kinds += [tool for tool in ("curl", "wget", "busybox") if shutil.which(tool)]
    return kinds


def make_guest(folder: Path, kind: str) -> Guest:
    tools = folder / "bin"
    tools.mkdir(parents=True)
    for name in TOOLS:
        found = shutil.which(name)
        assert found, name
        (tools / name).symlink_to(found)
    name = kind.split()[0]
    if "stand-in" in kind:
        (tools / name).write_text(STAND_IN.format(python=sys.executable, options=DOWNLOADERS[name]))
        (tools / name).chmod(0o755)
    else:
        (tools / name).symlink_to(str(shutil.which(name)))
    if kind.endswith("busybox"):
        (tools / "sh").unlink()
        if name != "busybox":
            (tools / "busybox").symlink_to(str(shutil.which("busybox")))
        (tools / "sh").symlink_to("busybox")
    if kind.endswith("bash"):
        (tools / "sh").unlink()
        (tools / "sh").symlink_to(str(shutil.which("bash")))
    (folder / "tmp").mkdir()
    environment = {
        "PATH": str(tools),
        "TMPDIR": str(folder / "tmp"),
        "META_DATA_CONF": str(folder / "none.conf"),
        "META_DATA_RESULTS": str(folder / "run"),
        "META_DATA_STATE": str(folder / "state"),
        "META_DATA_HOME": str(folder / "root"),
        "META_DATA_LOG": str(folder / "user-data.log"),
        "META_DATA_SECONDS": "0",
        # A proxy that does not exist: a client that asks it finds nothing.
        "http_proxy": "http://127.0.0.1:9",
    }
    return Guest(folder, str(tools / "sh"), environment)
