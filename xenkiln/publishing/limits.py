"""What a cloud's release allows, held against an image before anything of it is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from xenkiln.bundle.archive import LARGEST_PLAIN_BYTES
from xenkiln.bundle.estimate import estimate_bundle
from xenkiln.clouds.image_kind import describe_image_kind, find_kind_problem
from xenkiln.errors import BuildError, HostError
from xenkiln.publishing.bundling import Bundle, find_broken_name
from xenkiln.publishing.records import Records
from xenkiln.publishing.registering import find_registered
from xenkiln.publishing.sending import bucket_of, is_uploaded
from xenkiln.publishing.subject import PREFIXES, Subject
from xenkiln.publishing.target import Target

MIB, GIB = 1 << 20, 1 << 30
SURE = 0.9
"""How much of an estimate by samples will be sent for certain."""


def find_broken_names(subject: Subject, target: Target) -> Iterator[HostError]:
    """Names of objects and buckets that the release cannot keep; known before anything is built."""
    for role in subject.files if target.dialect.broken_names else ():
        if fact := find_broken_name(f"{PREFIXES[role]}-{subject.name}", target):
            yield HostError(fact, place=subject.place, next_step="give the recipe another name")
            return
        bucket = target.find_bucket(subject, role)
        if fact := find_broken_name(bucket, target):
            yield HostError(fact, place=f"{subject.place}: bucket {bucket}", next_step="use another bucket")


def find_planned_sizes(subject: Subject, target: Target) -> Iterator[HostError]:
    """What will be too large for the release: files that are there already, or what the recipe wants built."""
    sizes = {"disks.root": subject.planned_mib << 20} if subject.is_built else {
        file.name: file.stat().st_size for file in subject.files.values() if file.is_file()}  # fmt: skip
    yield from _find_large(sizes, subject, target)


def require_fit(subject: Subject, target: Target) -> None:
    """Raise for an image that is too large for the cloud's release, or that an instance could not boot from."""
    for problem in _find_large({file.name: file.stat().st_size for file in subject.files.values()}, subject, target):
        raise problem
    if fact := _find_kind_problem(subject):
        raise BuildError(fact, place=f"{subject.place}: publish")


def _find_large(sizes: Mapping[str, int], subject: Subject, target: Target) -> Iterator[HostError]:
    """sizes: of files by their names, in bytes."""
    largest = target.dialect.largest_gib
    step = f"make {'disks.root.size_mib' if subject.is_built else 'its filesystem'} smaller"
    for name, size in sizes.items():
        fact = ""
        if largest and size > largest * GIB:
            fact = f"takes {largest}"
        elif not target.dialect.takes_sparse and size >= LARGEST_PLAIN_BYTES:
            fact = f"takes less than {LARGEST_PLAIN_BYTES // GIB}, for it reads plain tar archives alone"
        if fact:
            yield HostError(f"{name} is {size / GIB:.1f} GiB, and {target.recipe.dialect} {fact}", place=subject.place,
                            next_step=step)  # fmt: skip


def _find_kind_problem(subject: Subject) -> str:
    """Kernels of a Eucalyptus' users read filesystems that nobody here may know; a disk is none."""
    if "root" not in subject.files:
        return ""
    publish, kind = subject.publish, describe_image_kind(subject.files["root"])
    is_paravirtual = publish.virtualization == "paravirtual"
    if kind.wrapping or not is_paravirtual:
        return find_kind_problem(kind, publish.virtualization, publish.boot_mode, has_kernel=is_paravirtual)
    if kind.table == "none":
        return ""
    return (f"the image is {kind}, and a paravirtual instance is given a bare filesystem: publish the one that is in"
            " it, or choose virtualization: hvm where the cloud has it")  # fmt: skip


def require_bucket_room(bundles: Iterable[Bundle], records: Records) -> None:
    """Raise HostError where those of the bundles that the cloud does not have will not fit into their buckets.

    What is there of them already counts as part of what is to be sent.
    """
    wanted: dict[str, list[Bundle]] = {}
    for bundle in bundles:
        if bundle.target.dialect.bucket_mib and not _is_there(bundle, records):
            wanted.setdefault(bucket_of(bundle), []).append(bundle)
    for bucket, own in wanted.items():
        target, names = own[0].target, tuple(f"{bundle.component.name}." for bundle in own)
        objects = target.store.list_objects(bucket, "")
        used = sum(stored.size for name, stored in objects.items() if not name.startswith(names))
        needed = sum(estimate_bundle(bundle.component.file, bundle.lay_out()) for bundle in own)
        if used + needed * SURE > target.dialect.bucket_mib * MIB:
            files = " and ".join(bundle.component.file.name for bundle in own)
            fact = (f"the bucket {bucket} has {used / MIB:.1f} of the {target.dialect.bucket_mib} MiB that"
                    f" {target.recipe.dialect} allows, and {files} will take about {needed / MIB:.1f}")  # fmt: skip
            step = f"doit prune:{target.name}, or use another bucket"
            raise HostError(fact, place=target.name, next_step=step)


def _is_there(bundle: Bundle, records: Records) -> bool:
    registered = find_registered(bundle.subject, bundle.component, bundle.target, records)
    return bool(registered) or is_uploaded(bundle, records)
