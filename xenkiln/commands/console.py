"""console:NAME: what the launched instance has on its console."""

from __future__ import annotations

import time

from xenkiln.errors import BuildError
from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.launching import find_recorded, read_console
from xenkiln.publishing.opening import open_target
from xenkiln.publishing.ownership import records_of
from xenkiln.publishing.subject import Subject
from xenkiln.system.commands import make_printable
from xenkiln.system.progress import show_progress


def run(subject: Subject, cloud: LoadedCloud) -> None:
    """Print all that came once what the image's recipe expects is there; BuildError where it did not come.

    Of an instance that has ended, what the cloud still has.
    """
    title = f"console:{subject.name}"
    started = time.monotonic()
    with show_progress(title) as tell:
        target = open_target(cloud, tell)
        instance = find_recorded(target, records_of(subject, target))
        if instance is None:
            raise BuildError("there is no instance of it", place=f"{subject.name} at {target.name}",
                             next_step=f"doit launch:{subject.name} cloud={target.name}")  # fmt: skip
        text, missing = read_console(subject, instance, target, tell)
    for line in text.decode(errors="replace").replace("\r", "").split("\n"):
        print(make_printable(line))
    if not text:
        raise BuildError(f"there is nothing on the console after {time.monotonic() - started:.0f} s", place=instance.id,
                         next_step="a cloud may need minutes: try again")  # fmt: skip
    print(f"{title}  {instance.id}  {len(text)} bytes")
    if missing:
        raise BuildError(f"not seen in {time.monotonic() - started:.0f} s: {', '.join(missing)}", place=instance.id,
                         next_step="see above how far it came; a cloud may need minutes to have it all")  # fmt: skip
