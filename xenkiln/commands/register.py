"""register:NAME: what was uploaded becomes an EKI, an ERI and an EMI of the cloud."""

from __future__ import annotations

from xenkiln.commands import upload
from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.component import open_registered
from xenkiln.publishing.opening import open_target
from xenkiln.publishing.ownership import hold_records
from xenkiln.publishing.registering import register_component
from xenkiln.publishing.subject import Role, Subject
from xenkiln.system.progress import show_progress

check = upload.check


def run(subject: Subject, cloud: LoadedCloud, role: Role) -> None:
    """Register one component, unless the cloud has it."""
    title = f"register:{subject.name}:{role}"
    with show_progress(title) as tell:
        target = open_target(cloud, tell)
        with hold_records(subject, target) as records:
            found = register_component(open_registered(subject, role, target), records, tell)
    print(f"{title}  {found.id}{'' if found.is_new else '  up to date'}")
