"""Publishing in a process of its own, which is killed: by the cloud that it talks to, or by itself at a record."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from publishing.meddling import Act, Asked
from publishing.site import Site
from xenkiln.bundle import parts
from xenkiln.publishing.records import Records

Moment = Literal["", "before", "after"]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["xenkiln.commands.publish", "xenkiln.commands.launch", "xenkiln.clouds.store",
                                "xenkiln.clouds.compute"])  # fmt: skip
LIMIT_SECONDS = 60


def run(site: Site, verbs: tuple[str, ...], build: str, part_bytes: int, kind: str, moment: Moment) -> None:
    """Do that; where a record of that kind is written, end before or after it is."""
    os.environ["XENKILN_BUILD"] = build
    setattr(parts, "PART_BYTES", part_bytes)  # noqa: B010  # it is Final to mypy
    write = Records.write

    def strike(records: Records, of: str, values: dict[str, str], result: str) -> None:
        if of != kind or (kind == "instance" and "id" not in values):
            write(records, of, values, result)
            return
        if moment == "after":
            write(records, of, values, result)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(Records, "write", strike)  # noqa: B010  # a method
    for verb in verbs:
        getattr(site, verb)()


@contextmanager
def running(
    site: Site, *verbs: str, part_bytes: int = 16 << 10, kind: str = "", moment: Moment = ""
) -> Iterator[BaseProcess]:
    """A process that does it; waited for at the end."""
    # A cloud has locks and files that no other process can be given.
    alone = Site(site.subject, site.cloud, None, site.images)  # type: ignore[arg-type]  # see above
    build = str(Path(os.environ["XENKILN_BUILD"]))
    arguments: Any = (alone, verbs, build, part_bytes, kind, moment)
    process = CONTEXT.Process(target=run, args=arguments)
    process.start()
    try:
        yield process
        process.join(LIMIT_SECONDS)
    finally:
        process.kill()
        process.join()


def kill(process: BaseProcess, after_work: bool) -> Act:
    """Kill it before the cloud does what it asks for, or when it has been done."""

    def act(asked: Asked) -> Any:
        if after_work:
            asked.answer()
        process.kill()
        raise ConnectionResetError

    return act
