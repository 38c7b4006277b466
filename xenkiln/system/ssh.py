"""The one door to other machines: checked host keys, quoted commands, errors that help. Only ssh*.py use paramiko."""

from __future__ import annotations

import logging
import os
import shlex
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from xenkiln.errors import CommandError, HostError, XenkilnError
from xenkiln.model.domain import Deploy
from xenkiln.system.commands import LAST_LINES, describe_ending
from xenkiln.system.ssh_channels import RemoteFile, Stream, wait_for_end
from xenkiln.system.ssh_trust import load_trust, name_known_host

PASSWORD_VARIABLE = "XENKILN_SSH_PASSWORD"  # noqa: S105  # where it is, not what it is
CONNECT_SECONDS = 20
SILENCE_SECONDS = 600
"""How long a host may say nothing: hashing a large image takes its time."""
GRACE_SECONDS = 5
KEEPALIVE_SECONDS = 15
DEAD_MILLISECONDS = 60_000
"""Unanswered data for that long ends the connection (tcp(7), TCP_USER_TIMEOUT)."""
# An ordinary user's PATH lacks the folders that xl and lvcreate are in.
PREPARE = "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; LC_ALL=C; export PATH LC_ALL; "

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # its errors reach the user as ours


class ConnectionLostError(HostError):
    """The connection broke; what was confirmed before stays and is not sent again."""


@dataclass(frozen=True)
class Answer:
    """How a command on the other machine ended."""

    code: int
    out: str
    err: str


class Remote:
    """A connected machine; `name` is user@host as messages say it."""

    def __init__(self, client: paramiko.SSHClient, name: str, note: Callable[[str], None]) -> None:
        self.name = name
        self.note = note
        self._client = client
        self._sftp: paramiko.SFTPClient | None = None

    def run(
        self,
        argv: Sequence[str],
        *,
        input_text: str = "",
        accept: Sequence[int] = (0,),
        limit_seconds: float | None = None,
    ) -> Answer:
        """Run a command to its end; every word arrives as it is. Raises CommandError and ConnectionLostError.

        One that has not ended within the limit is left, with a CommandError; where the machine does not even
        answer to that, the connection is.
        """
        command = shlex.join(argv)
        self.note(f"{self.name}$ {command}")
        patience = SILENCE_SECONDS if limit_seconds is None else limit_seconds
        with self.translate_errors(command), self._close_after(limit_seconds):
            stdin, stdout, stderr = self._client.exec_command(PREPARE + command, timeout=patience)
            stdin.write(input_text.encode())
            stdin.channel.shutdown_write()
            if limit_seconds is not None:
                wait_for_end(stdin.channel, limit_seconds, f"{self.name}$ {command}")
            out = stdout.read().decode(errors="replace")
            answer = Answer(stdout.channel.recv_exit_status(), out, stderr.read().decode(errors="replace"))
        lines = [*answer.err.splitlines(), *answer.out.splitlines()]
        for line in lines:
            self.note(line)
        if answer.code == -1:
            raise self._lost(command)  # no exit status: sshd went away under the command
        if answer.code not in accept:
            raise CommandError(f"{self.name}$ {command}", describe_ending(answer.code), last_lines=lines[-LAST_LINES:])
        return answer

    @contextmanager
    def _close_after(self, seconds: float | None) -> Iterator[None]:
        """End the connection where the block takes clearly longer: paramiko waits for some answers for ever."""
        if seconds is None:
            yield
            return
        timer = threading.Timer(seconds + GRACE_SECONDS, self._client.close)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def stream(self, argv: Sequence[str]) -> Iterator[Stream]:
        """Start a command and read what it prints while it runs; leaving ends it."""
        command = shlex.join(argv)
        self.note(f"{self.name}$ {command} &")
        with self.translate_errors(command):
            _, stdout, _ = self._client.exec_command(PREPARE + command)
            try:
                yield Stream(stdout.channel)
            finally:
                stdout.channel.close()

    def succeeds(self, argv: Sequence[str]) -> bool:
        """Whether a command that asks a question says yes (exit code 0)."""
        return self.run(argv, accept=range(256)).code == 0

    @contextmanager
    def open_file(self, path: str) -> Iterator[RemoteFile]:
        """Open a file or device that is there, over SFTP."""
        with self.translate_errors(path):
            handle = self._open_sftp().open(path, "r+b", bufsize=0)
            try:
                yield RemoteFile(handle)
            finally:
                handle.close()

    def _open_sftp(self) -> paramiko.SFTPClient:
        if self._sftp is None:
            try:
                self._sftp = self._client.open_sftp()
            except (EOFError, paramiko.SSHException) as error:
                raise HostError(
                    "its ssh server offers no SFTP",
                    place=self.name,
                    next_step="give its sshd_config the line `Subsystem sftp internal-sftp`",
                ) from error
            channel = self._sftp.get_channel()
            if channel:
                channel.settimeout(SILENCE_SECONDS)
        return self._sftp

    @contextmanager
    def translate_errors(self, what: str) -> Iterator[None]:
        """Say what broke: the connection, or the other machine's disk, permissions, paths."""
        try:
            yield
        except (EOFError, TimeoutError, paramiko.SSHException) as error:
            raise self._lost(what) from error
        except OSError as error:
            channel = self._sftp.get_channel() if self._sftp else None
            transport = self._client.get_transport()
            if not transport or not transport.is_active() or (channel and channel.closed):
                raise self._lost(what) from error
            # SFTP version 3 has no code for a full disk: it says "Failure" and nothing else.
            fact = error.strerror or str(error)
            raise HostError(
                fact if fact != "Failure" else "cannot be written: no space is left there, or a quota is used up",
                place=f"{self.name}:{what}",
                next_step="make room or give the user the right to it, then run this again; it goes on from here",
            ) from error

    def _lost(self, what: str) -> ConnectionLostError:
        return ConnectionLostError(
            "the connection was lost", place=f"{self.name}: {what}", next_step="run this again; it goes on from here"
        )

    def get_host_key(self) -> str:
        """The verified host key, its type and base64, as known_hosts has it."""
        transport = self._client.get_transport()
        if transport is None:
            raise self._lost("host key")
        key = transport.get_remote_server_key()
        return f"{key.get_name()} {key.get_base64()}"


@contextmanager
def connect(target: Deploy, note: Callable[[str], None], *, trust_any: bool = False) -> Iterator[Remote]:
    """Connect to the host of a recipe's deploy section; `note` takes lines for a log.

    Its key must be the recipe's fingerprint or in a known_hosts file, unless any is to be trusted. Logs in by agent,
    key file or the password in XENKILN_SSH_PASSWORD. Raises HostError that says what to do.
    """
    name = f"{target.user}@{target.host}"
    client = paramiko.SSHClient()
    try:
        load_trust(client, target, trust_any=trust_any)
        note(f"# connecting to {name}, port {target.port}")
        with _explain_failure(target, name):
            _log_in(client, target, stranger=trust_any)
        yield Remote(client, name, note)
    finally:
        client.close()


def answers(target: Deploy, seconds: float) -> bool:
    """Whether an ssh server says its name within that time; costs it nothing but that line."""
    try:
        with socket.create_connection((target.host, target.port), seconds) as stream:
            stream.settimeout(seconds)
            return stream.recv(4) == b"SSH-"
    except OSError:
        return False


def _log_in(client: paramiko.SSHClient, target: Deploy, *, stranger: bool) -> None:
    """With all that the user has; to a stranger nothing is shown but the one key that is meant for it."""
    key_file = str(Path(target.key_file).expanduser()) if target.key_file else None
    stream = socket.create_connection((target.host, target.port), CONNECT_SECONDS)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_MILLISECONDS)
    client.connect(
        target.host,
        target.port,
        target.user,
        password=None if stranger else os.environ.get(PASSWORD_VARIABLE),
        allow_agent=not stranger,
        key_filename=key_file,
        look_for_keys=key_file is None and not stranger,
        timeout=CONNECT_SECONDS,
        banner_timeout=CONNECT_SECONDS,
        auth_timeout=CONNECT_SECONDS,
        sock=stream,
    )
    transport = client.get_transport()
    if transport:
        transport.set_keepalive(KEEPALIVE_SECONDS)


@contextmanager
def _explain_failure(target: Deploy, name: str) -> Iterator[None]:
    """From what paramiko raises to what the user can do."""
    try:
        yield
    except XenkilnError:
        raise
    except paramiko.BadHostKeyException as error:
        fact = f"its key has changed: it is {error.key.fingerprint} now, known is {error.expected_key.fingerprint}"
        advice = (
            "this may be another machine that answers in its name. If its administrator says that the key was"
            f" changed: ssh-keygen -R '{name_known_host(target)}', and connect once by ssh"
        )
        raise HostError(fact, place=name, next_step=advice) from error
    except paramiko.PasswordRequiredException as error:
        fact = f"the key {target.key_file or ''} has a pass phrase"
        raise HostError(fact, place=name, next_step="add it to your ssh agent: ssh-add") from error
    except paramiko.AuthenticationException as error:
        tried = f"the key {target.key_file}" if target.key_file else "the keys of your agent and of ~/.ssh"
        tried += f", the password in {PASSWORD_VARIABLE}" if PASSWORD_VARIABLE in os.environ else ""
        raise HostError(
            f"does not let us in; tried: {tried}",
            place=name,
            next_step=f"give deploy.key_file, add a key to your agent, or set {PASSWORD_VARIABLE}",
        ) from error
    except IncompatiblePeer as error:
        raise HostError(
            f"its ssh server has no algorithm in common with ours: {error}",
            place=name,
            next_step="servers before OpenSSH 7.2 (CentOS 5 and 6) sign with SHA-1 only: install a newer one there",
        ) from error
    except FileNotFoundError as error:
        raise HostError(f"there is no key file {error.filename}", place=name,
                        next_step="correct deploy.key_file") from error  # fmt: skip
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise HostError(f"cannot be reached on port {target.port}: {error}", place=name,
                        next_step="check deploy.host and deploy.port, and that sshd runs there") from error  # fmt: skip
