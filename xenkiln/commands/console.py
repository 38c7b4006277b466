"""console:NAME: what the launched instance has on its console."""

from __future__ import annotations

from xenkiln.errors import BuildError
from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.component import records_of
from xenkiln.publishing.launching import find_instance, read_console
from xenkiln.publishing.opening import open_target
from xenkiln.publishing.subject import Subject
from xenkiln.system.commands import make_printable
from xenkiln.system.progress import show_progress


def run(subject: Subject, cloud: LoadedCloud) -> None:
    """Wait for what the image's recipe expects there, within its time limit, and print all that came."""
    title = f"console:{subject.name}"
    with show_progress(title) as tell:
        target = open_target(cloud, tell)
        instance = find_instance(target, records_of(subject, target))
        if instance is None:
            raise BuildError("no instance of it is running", place=f"{subject.name} at {target.name}",
                             next_step=f"doit launch:{subject.name} cloud={target.name}")  # fmt: skip
        text, missing = read_console(subject, instance, target, tell)
    for line in text.decode(errors="replace").replace("\r", "").split("\n"):
        print(make_printable(line))
    if not text:
        raise BuildError(f"there is nothing on the console after {subject.boot_seconds} s", place=instance.id,
                         next_step="a cloud may need minutes: try again")  # fmt: skip
    state = f"not seen within {subject.boot_seconds} s: {', '.join(missing)}" if missing else f"{len(text)} bytes"
    print(f"{title}  {instance.id}  {state}")
