"""deregister:NAME: take an image back from a cloud, and every earlier one of its name, with their bundles."""

from __future__ import annotations

from xenkiln.errors import BuildError
from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.amazon import drop_begun, take_back_ami
from xenkiln.publishing.launching import find_instance, refuse_guess
from xenkiln.publishing.opening import open_target
from xenkiln.publishing.ownership import hold_records
from xenkiln.publishing.records import REGISTERED, UPLOADED, Records
from xenkiln.publishing.registering import adopt_registered, take_back, take_back_location
from xenkiln.publishing.sending import drop_secret, list_begun
from xenkiln.publishing.subject import ROLES, Subject
from xenkiln.publishing.target import Target
from xenkiln.system.progress import Tell, show_progress


def run(subject: Subject, cloud: LoadedCloud) -> None:
    """Refused while an instance of it runs."""
    title = f"deregister:{subject.name}"
    with show_progress(title) as tell:
        target = open_target(cloud, tell)
        with hold_records(subject, target) as records:
            refuse_guess(target, records)
            if instance := find_instance(target, records):
                raise BuildError(f"{instance.id} is {instance.state}", place=f"{subject.name} at {target.name}",
                                 next_step=f"doit terminate:{subject.name} cloud={target.name}")  # fmt: skip
            if not records.read(REGISTERED):
                adopt_registered(subject, target, records)
            gone = take_back_all(records, target, tell)
    print(f"{title}  {', '.join(gone) or 'nothing of it was registered'}")


def take_back_all(records: Records, target: Target, tell: Tell) -> list[str]:
    """What is registered now, then the earlier ones; each record goes when the cloud has let go of what it says."""
    back = take_back_ami if target.dialect.is_amazon else take_back
    if target.dialect.is_amazon:
        drop_begun(records, target, tell)
    gone = back(records.read(REGISTERED), target, tell)
    uploaded = records.read(UPLOADED)
    for role in ROLES:
        # Of what was uploaded, and never registered.
        for location in filter(None, [uploaded.get(f"{role}.location"), *list_begun(uploaded, role)]):
            gone += take_back_location(location, target, tell)
        drop_secret(records, role)
    records.remove(REGISTERED)
    records.remove(UPLOADED)
    for path, values in records.list_earlier().items():
        gone += back(values, target, tell)
        path.unlink()
    return gone
