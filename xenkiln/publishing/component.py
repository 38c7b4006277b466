"""One component of an image, found by its role."""

from __future__ import annotations

from xenkiln.publishing.bundling import Bundle
from xenkiln.publishing.ownership import records_of
from xenkiln.publishing.registering import list_ids
from xenkiln.publishing.subject import Role, Subject
from xenkiln.publishing.target import Target


def open_bundle(subject: Subject, role: Role, target: Target) -> Bundle:
    """The component as it is bundled for a folder: as the classic commands do, without a word of the other two."""
    return Bundle(subject, next(each for each in subject.list_components() if each.role == role), target, {})


def open_registered(subject: Subject, role: Role, target: Target) -> Bundle:
    """The same, where the root filesystem's knows what kernel and ramdisk are at that cloud."""
    components = subject.list_components()
    component = next(each for each in components if each.role == role)
    ids = list_ids(subject, components, records_of(subject, target)) if role == "root" else {}
    return Bundle(subject, component, target, ids)
