"""A Xen host that belongs to none of its users: a program beside them starts it, and ends it with the last of them.

A boot owns the host that it starts. An instance must not: others that came later live on when it ends.
"""

from __future__ import annotations

import fcntl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from xenkiln.errors import HostError, XenkilnError
from xenkiln.lab.host import Tell, read_text
from xenkiln.lab.places import hold_file
from xenkiln.lab.readiness import find_lab_problems, require_dom0
from xenkiln.lab.session import USERS_LOCK, WAIT_SECONDS, Lab, Session, open_lab, run_shared
from xenkiln.system.causes import explain_os_error
from xenkiln.system.commands import describe_ending
from xenkiln.system.layout import PROJECT
from xenkiln.system.services import start_service

READY = "the Xen host is ready"


@contextmanager
def start_kept(output: Path, lab: Lab, guest_mib: int, tell: Tell) -> Iterator[Session]:
    """Have the host started and kept by a program of its own, and join it.

    With the file for that program's output given, a `Start` of xenkiln.lab.session.
    """
    if problems := find_lab_problems(lab, guest_mib):
        raise XenkilnError("\n".join(map(str, problems)))
    require_dom0(lab)
    # One user there is until we have joined, so it does not end before.
    with hold_file(lab.folder / USERS_LOCK, fcntl.LOCK_SH):
        tell("wait for the Xen host")
        wait_for_keeper(output, lab, guest_mib)
        with open_lab(lab, guest_mib, tell, partial(start_kept, output)) as session:
            yield session


def wait_for_keeper(output: Path, lab: Lab, guest_mib: int) -> None:
    """Start a keeper, and return when its host is ready, or another's was there; raises HostError with its words."""
    words = [str(lab.folder), str(lab.images), lab.modules, str(guest_mib)]
    process = start_service([sys.executable, "-m", __name__, *words], PROJECT, output, stays=True)
    while (code := process.poll()) is None and READY not in read_text(output):
        time.sleep(WAIT_SECONDS)
    if code:
        raise HostError(read_text(output).strip() or f"what keeps the Xen host has ended: {describe_ending(code)}")


def keep_host(lab: Lab, guest_mib: int) -> None:
    """Run a host for such a guest until its last user has gone; nothing where one runs."""
    with run_shared(lab, guest_mib, lambda _: None, has_guest=False) as started:
        if started:
            print(READY, flush=True)


def main(words: Sequence[str]) -> int:
    """Be the keeper; what goes wrong is all that it prints."""
    folder, images, modules, guest_mib = words
    try:
        keep_host(Lab(Path(folder), Path(images), modules), int(guest_mib))
    except (XenkilnError, OSError) as error:
        print(explain_os_error(error) if isinstance(error, OSError) else error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
