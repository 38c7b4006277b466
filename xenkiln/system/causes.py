"""From a failed command's last lines to the likely cause and the next step."""

from __future__ import annotations

import errno
import re

from xenkiln.errors import HostError

SEGFAULT = 139
_MORE_MEMORY = "end other programs or add swap, and run this again: it goes on from the last finished step"

CAUSES = (
    (r"No space left on device|needs? \d+.{0,20}on the .* filesystem|disk full",
     "the disk is full: free some space, or raise disks.root.size_mib if it is the image that is full"),
    (r"Hash Sum mismatch|checksum (does|doesn't|mismatch|error)|(bad|wrong) checksum|size mismatch|Unexpected size",
     "the mirror sent something else than its index promises: try again later, or name another mirror"),
    (r"Could not resolve|Temporary failure (resolving|in name)|Name or service not known",
     "the mirror's name cannot be resolved: check the network and the mirror's name"),
    (r"Connection (refused|timed out|failed)|Could not connect|Network is unreachable|Timeout was reached|Curl error",
     "the mirror cannot be reached: check the network, a proxy, or name another mirror"),
    (r"\b404\b|Not Found|Unable to locate package|No match for argument|No package .* available|Unable to find a match",
     "the mirror does not have it: check the name, or run `doit lock` again if the release moved on"),
    (r"not signed|NO_PUBKEY|BADSIG|EXPKEYSIG|GPG check FAILED|public key is not|Bad GPG|BAD signature|NOKEY",
     "a signature does not check: give the right key (packages.keyring, or gpgkeys of the repository)"),
    (r"failed to set ?up loop device|could not find any free loop|losetup: .*loop",
     "there is no free loop device: `doit sweep` lists what is left over, `modprobe loop` brings the driver"),
    (r"Permission denied|Operation not permitted|must be (run as )?root|are you root",
     "this needs root: run it again with sudo"),
)  # fmt: skip


def find_cause(tail: str, code: int) -> str:
    """The next step for a failure, or the way to more detail where no cause is known."""
    if code in (SEGFAULT, -11):
        return (
            "a program of the guest crashed; guests before CentOS 7 need the host kernel booted with"
            " vsyscall=emulate: see `doit doctor`"
        )
    for pattern, advice in CAUSES:
        if re.search(pattern, tail, re.IGNORECASE):
            return advice
    return "read the log; the run goes on from this step when you call it again"


def explain_lack(error: OSError | MemoryError) -> HostError:
    """What this host did not give, in the user's words."""
    if isinstance(error, OSError):
        return explain_os_error(error)
    return HostError("there is too little free memory", place="this host", next_step=_MORE_MEMORY)


def explain_os_error(error: OSError) -> HostError:
    """An error of the host's own kernel in the user's words: what, where, and the way out."""
    advice = {
        errno.ENOSPC: "free some space and run this again: it goes on from the last finished step",
        errno.EDQUOT: "free some space and run this again: it goes on from the last finished step",
        errno.EACCES: "run it as the user whose folder it is, with sudo, or elsewhere: XENKILN_BUILD=/a/folder",
        errno.EPERM: "run it again with sudo",
        errno.ENOMEM: _MORE_MEMORY,
        errno.EROFS: "put the build elsewhere with XENKILN_BUILD=/a/folder",
        errno.ELOOP: "there is a link where a file of the build should be: remove it",
    }
    return HostError(error.strerror or str(error), place=str(error.filename2 or error.filename or "this host"),
                     next_step=advice.get(error.errno or 0, ""))  # fmt: skip
