"""terminate:NAME: end the instance that `doit launch` has started."""

from __future__ import annotations

from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.launching import terminate
from xenkiln.publishing.opening import open_target
from xenkiln.publishing.ownership import hold_records
from xenkiln.publishing.subject import Subject
from xenkiln.system.progress import show_progress


def run(subject: Subject, cloud: LoadedCloud) -> None:
    """End it and wait until the cloud says so; where none runs that is said."""
    title = f"terminate:{subject.name}"
    with show_progress(title) as tell:
        target = open_target(cloud, tell)
        with hold_records(subject, target) as records:
            ended = terminate(target, records, subject.launch.time_limit_seconds, tell)
    print(f"{title}  {f'{ended} has ended' if ended else 'no instance of it is running'}")
