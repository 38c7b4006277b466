"""Boots a root's own /sbin/init beside a small cloud, both in namespaces of their own; a program, not a module.

Usage: unshare --net --mount --pid --fork --kill-child --mount-proc boot_driver.py ROOT KEY
Prints one JSON object: the guest's console, what ssh answered, what was asked of the cloud.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from guest.cloud import Cloud, run_cloud

CLOUD, GUEST = "10.0.2.1", "10.0.2.50"
PATIENCE_SECONDS = 40

# What a hypervisor gives a guest: its own disk, devices, console and network, and nothing of the host's.
START = """
set -e
mount --bind "$1" "$1"
mount -t tmpfs -o mode=0755 dev "$1/dev"
for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0" "ptmx 5 2"; do
    set -- "$1" "$2" $node
    mknod -m 0666 "$1/dev/$3" c "$4" "$5"
done
touch "$1/dev/console"
mount --bind "$2" "$1/dev/console"
echo started
read go
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$1" /sbin/init <"$2" >"$2" 2>&1
"""
QUESTIONS = """
cat /root/.ssh/authorized_keys; echo ---
cd /run/xenkiln/meta-data && find . -type f | sort; echo ---
cat /etc/resolv.conf; echo ---
ip route; echo ---
mount; echo ---
hostname
"""


def run(*argv: str) -> None:
    subprocess.run(argv, check=True)


def start_guest(root: str, stack: ExitStack) -> tuple[int, list[bytes]]:
    """Start init in its namespaces, its network not plugged in yet; its pid, and its console's growing output."""
    master, slave = pty.openpty()
    output: list[bytes] = []

    def read_console() -> None:
        while True:
            try:
                output.append(os.read(master, 4096))
            except OSError:
                return

    threading.Thread(target=read_console, daemon=True).start()
    guest = subprocess.Popen(
        ["unshare", "--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", START, "sh",
         root, os.ttyname(slave)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    stack.callback(guest.kill)
    assert guest.stdin is not None
    assert guest.stdout is not None
    assert guest.stdout.readline() == b"started\n"
    child = Path(f"/proc/{guest.pid}/task/{guest.pid}/children").read_text().split()[0]
    run("ip", "link", "add", "cloud0", "type", "veth", "peer", "name", "eth0", "netns", child)
    run("ip", "addr", "add", f"{CLOUD}/24", "dev", "cloud0")
    run("ip", "link", "set", "cloud0", "up")
    run("ip", "link", "set", "lo", "up")
    stack.callback(guest.stdin.close)
    threading.Timer(0.3, lambda: guest.stdin and (guest.stdin.write(b"go\n"), guest.stdin.flush())).start()
    return int(child), output


def serve_dhcp(root: str, stack: ExitStack) -> None:
    """The image's own busybox as the cloud's DHCP server."""
    conf = Path("/run/udhcpd.conf")
    lines = (f"start {GUEST}", f"end {GUEST}", "interface cloud0", "lease_file /run/leases", "pidfile /run/udhcpd.pid",
             "option subnet 255.255.255.0", f"option router {CLOUD}", "option dns 10.0.2.3",
             "option domain cloud.test")  # fmt: skip
    conf.write_text("\n".join(lines) + "\n")
    Path("/run/leases").touch()
    server = subprocess.Popen([f"{root}/bin/busybox", "udhcpd", "-f", str(conf)], stderr=subprocess.DEVNULL)
    stack.callback(server.kill)


def wait_for(output: list[bytes], text: bytes) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while text not in b"".join(output) and time.monotonic() < deadline:
        time.sleep(0.05)


def ask_by_ssh(key: str, *options: str) -> tuple[int, str]:
    argv = ["ssh", "-i", key, "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "ConnectTimeout=10", "-o", "LogLevel=ERROR", *options, f"root@{GUEST}"]  # fmt: skip
    answer = subprocess.run([*argv, QUESTIONS], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    return answer.returncode, answer.stdout + answer.stderr


def boot(root: str, key: str) -> dict[str, object]:
    with ExitStack() as stack:
        run("mount", "--make-rprivate", "/")
        run("mount", "-t", "tmpfs", "run", "/run")
        _, output = start_guest(root, stack)
        serve_dhcp(root, stack)
        cloud: Cloud = stack.enter_context(run_cloud(8773, CLOUD))
        cloud.say("meta-data/public-keys/0/openssh-key", Path(f"{key}.pub").read_text())
        cloud.say("user-data", "#!/bin/sh\ntouch /root/user-data-was-here\n")
        wait_for(output, b"meta-data: fetched")
        wait_for(output, b"tiny: ready")
        code, answer = ask_by_ssh(key, "-o", "BatchMode=yes")
        without = ask_by_ssh("/nonexistent", "-o", "PasswordAuthentication=no")
        return {"console": b"".join(output).decode(), "ssh": code, "answer": answer, "without_key": without,
                "requests": cloud.requests, "complaints": cloud.complaints}  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(boot(*sys.argv[1:])), flush=True)
    # The namespace's first process: its end is the end of everything that was started in it.
    os._exit(0)
