"""upload:NAME: what `doit bundle` made, into the buckets of a cloud."""

from __future__ import annotations

import time

from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.component import open_bundle
from xenkiln.publishing.limits import require_bucket_room, require_fit
from xenkiln.publishing.opening import open_target, require_publishable
from xenkiln.publishing.ownership import hold_records
from xenkiln.publishing.registering import find_registered
from xenkiln.publishing.sending import is_sent, locate, send_folder
from xenkiln.publishing.subject import Role, Subject
from xenkiln.system.progress import show_progress


def check(subject: Subject, cloud: LoadedCloud) -> None:
    """Refuse before anything is built, and before anything is sent; a bucket is made when something goes into it."""
    require_publishable(subject, cloud)
    if not cloud.recipe.embedded:
        target = open_target(cloud, lambda _: None)
        for bucket in dict.fromkeys(target.find_bucket(subject, role) for role in subject.files):
            target.store.check_bucket(bucket)


def run(subject: Subject, cloud: LoadedCloud, role: Role) -> None:
    """Upload one component, only what the cloud does not have yet."""
    started = time.monotonic()
    title = f"upload:{subject.name}:{role}"
    with show_progress(title) as tell:
        target = open_target(cloud, tell)
        bundle = open_bundle(subject, role, target)
        with hold_records(subject, target) as records:
            if known := find_registered(subject, bundle.component, target, records):
                # What somebody may run stays as it is.
                print(f"{title}  up to date: {known} is registered of {locate(bundle)}")
                return
            if is_sent(bundle, records):
                print(f"{title}  up to date: {locate(bundle)}")
                return
            require_fit(subject, target)
            require_bucket_room([bundle], records)
            sent = send_folder(bundle, records, tell)
    print(f"{title}  {time.monotonic() - started:.1f} s  {sent / 1e6:.1f} MB sent, {locate(bundle)}")
