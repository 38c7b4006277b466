"""Work on a Xen host, once more on another where that one is too small, or went with the run that had started it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from xenkiln.errors import HostError, XenkilnError
from xenkiln.lab.host import Tell
from xenkiln.lab.session import Lab, Session, Start, open_lab, open_own_host, share_machine

Result = TypeVar("Result")


class NoRoomError(HostError):
    """The Xen host has too little memory left for the guest."""


def work_on_host(
    lab: Lab,
    guest_mib: int,
    work: Callable[[Session], Result],
    *,
    tell: Tell,
    note: Callable[[str], None],
    start: Start = share_machine,
) -> Result:
    """Do the work on a host that runs, or on one that is started as `start` does.

    What the work raises is raised, unless its host is lost by then, or, with NoRoomError, was shared.
    """
    open_host: Start = partial(open_lab, start=start)
    while True:
        with open_host(lab, guest_mib, tell) as session:
            try:
                return work(session)
            except NoRoomError as error:
                if session.is_own:
                    raise
                note(f"# {error.fact}: once more, on a host of its own")
                open_host = open_own_host
                continue
            except XenkilnError:
                if not session.is_lost():
                    raise
        note("# the run that had started this Xen host has ended it: once more, on another")
