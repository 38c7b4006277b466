"""publish:NAME: bundled, uploaded and registered in one stream; nothing of it touches the disk."""

from __future__ import annotations

import time

from xenkiln.clouds.dialects import DIALECTS
from xenkiln.commands import upload
from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.amazon import publish_ami, require_ami
from xenkiln.publishing.component import open_bundle, open_registered
from xenkiln.publishing.limits import require_bucket_room, require_fit
from xenkiln.publishing.opening import open_target, require_publishable
from xenkiln.publishing.ownership import hold_records
from xenkiln.publishing.records import Records
from xenkiln.publishing.registering import find_registered, register_component
from xenkiln.publishing.sending import is_sent, locate, send_stream
from xenkiln.publishing.subject import ROLES, Role, Subject
from xenkiln.publishing.target import Target
from xenkiln.publishing.user_data import find_user_data
from xenkiln.system.progress import Tell, show_progress


def check(subject: Subject, cloud: LoadedCloud) -> None:
    """Refuse before anything is built; an EBS snapshot goes through no bucket."""
    # An image is published to be launched.
    find_user_data(subject, cloud)
    if DIALECTS[cloud.recipe.dialect].is_amazon:
        require_publishable(subject, cloud)
        require_ami(subject)
    else:
        upload.check(subject, cloud)


def run(subject: Subject, cloud: LoadedCloud) -> None:
    """Publish what the cloud does not have: kernel and ramdisk first, for the root filesystem names them."""
    title = f"publish:{subject.name}"
    with show_progress(title) as tell:
        target = open_target(cloud, tell)
        with hold_records(subject, target) as records:
            if target.dialect.is_amazon:
                print(f"{title}  {publish_disk(subject, target, records, tell)}")
                return
            require_fit(subject, target)
            # Read now, or the kernel's line would have the time that the root filesystem takes.
            tell("read the files")
            roles = [role for role in ROLES if role in subject.files]
            require_bucket_room([open_bundle(subject, role, target) for role in roles], records)
            for role in roles:
                print(f"{title}  {role:<8}{publish_component(subject, role, target, records, tell)}")


def publish_disk(subject: Subject, target: Target, records: Records, tell: Tell) -> str:
    """The id of the AMI, and what was done for it."""
    started = time.monotonic()
    known, is_new = publish_ami(subject, target, records, tell)
    return f"{known}  {f'{time.monotonic() - started:.1f} s' if is_new else 'up to date'}"


def publish_component(subject: Subject, role: Role, target: Target, records: Records, tell: Tell) -> str:
    """Its id at the cloud, and what was done for it."""
    started = time.monotonic()
    bundle = open_registered(subject, role, target)
    sent = 0
    if not find_registered(subject, bundle.component, target, records) and not is_sent(bundle, records):
        sent = send_stream(bundle, records, lambda text: tell(f"{role}: {text}"))
    found = register_component(bundle, records, tell)
    if not found.is_new:
        return f"{found.id}  up to date, {locate(bundle)}"
    return f"{found.id}  {time.monotonic() - started:.1f} s, {sent / 1e6:.1f} MB sent, {locate(bundle)}"
