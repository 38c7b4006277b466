"""bundle:NAME: kernel, ramdisk and root filesystem as bundles for an EC2-compatible cloud, in build/bundles/NAME."""

from __future__ import annotations

import time

from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.bundling import find_broken_name, keep_bundle, read_record
from xenkiln.publishing.component import open_bundle
from xenkiln.publishing.opening import open_target, require_publishable
from xenkiln.publishing.subject import Role, Subject
from xenkiln.system.progress import show_progress


def check(subject: Subject, cloud: LoadedCloud) -> None:
    """Refuse before anything is built."""
    require_publishable(subject, cloud, ("credentials",))


def run(subject: Subject, cloud: LoadedCloud, role: Role) -> None:
    """Bundle one component where it has changed since the last time, whole or not at all."""
    started = time.monotonic()
    title = f"bundle:{subject.name}:{role}"
    with show_progress(title) as tell:
        bundle = open_bundle(subject, role, open_target(cloud, tell))
        is_new = keep_bundle(bundle, tell)
    if fact := find_broken_name(bundle.component.name, bundle.target):
        print(f"{title}  {fact}")
    objects = read_record(bundle)["objects"]
    size = sum(size for size, _ in objects.values()) / 1e6
    seconds = f"{time.monotonic() - started:.1f} s" if is_new else "up to date"
    print(f"{title}  {seconds}  {len(objects)} files, {size:.1f} MB, in {bundle.folder}")
