"""Whom to trust as the right machine: the recipe's fingerprint, the files of known hosts, or anybody."""

from __future__ import annotations

from pathlib import Path

import paramiko

from xenkiln.errors import HostError
from xenkiln.model.domain import Deploy


class _Fingerprint(paramiko.MissingHostKeyPolicy):
    """Take a host whose key has the recipe's fingerprint, and no other."""

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted.rstrip("=")

    def missing_host_key(self, client: object, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        """Called for every host, since no file of known ones is read."""
        if key.fingerprint.rstrip("=") != self.wanted:
            raise HostError(
                f"its {key.get_name()} key is {key.fingerprint}, the recipe says {self.wanted}",
                place=hostname,
                next_step="ask its administrator, or compare on its own console:"
                " ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub; then correct deploy.fingerprint",
            )


class _TakeAny(paramiko.MissingHostKeyPolicy):
    """Take whoever answers: for a way that leads through nothing but our own machine."""

    def missing_host_key(self, client: object, hostname: str, key: paramiko.PKey) -> None:
        """Called for every host, since no file of known ones is read."""


class _Refuse(paramiko.MissingHostKeyPolicy):
    """Nobody has said yet that this is the right host."""

    def missing_host_key(self, client: object, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        """Called for a host that is in none of the files."""
        raise HostError(
            f"nothing says that this is the right host; its {key.get_name()} key is {key.fingerprint}",
            place=hostname,
            next_step="compare that with the host's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on its"
            " console), then add it to known_hosts by `ssh` or write it as deploy.fingerprint",
        )


def load_trust(client: paramiko.SSHClient, target: Deploy, *, trust_any: bool) -> None:
    """The recipe's fingerprint alone, or the files of known hosts, unless any host will do."""
    if trust_any:
        client.set_missing_host_key_policy(_TakeAny())
        return
    if target.fingerprint:
        client.set_missing_host_key_policy(_Fingerprint(target.fingerprint))
        return
    client.set_missing_host_key_policy(_Refuse())
    for file in list_known_hosts(target):
        if file.exists():
            client.load_system_host_keys(str(file))
        elif target.known_hosts:
            raise HostError("does not exist", place=str(file), next_step="correct deploy.known_hosts")


def list_known_hosts(target: Deploy) -> list[Path]:
    """The recipe's own file, else those that ssh itself reads."""
    if target.known_hosts:
        return [Path(target.known_hosts).expanduser()]
    return [Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts")]


def name_known_host(target: Deploy) -> str:
    """A host as known_hosts has it, sshd(8)."""
    return target.host if target.port == 22 else f"[{target.host}]:{target.port}"
