"""Images registered at a cloud: each once, earlier ones kept until they are taken back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from xenkiln.bundle.manifest import parse_manifest
from xenkiln.clouds.compute import Image, wait_for
from xenkiln.errors import BuildError, CloudError
from xenkiln.publishing.bundling import Bundle, Tell
from xenkiln.publishing.records import REGISTERED, UPLOADED, Records, unpack_objects
from xenkiln.publishing.sending import bucket_of, drop_secret, is_uploaded, list_begun, locate
from xenkiln.publishing.subject import Component, Role, Subject
from xenkiln.publishing.target import Target

AVAILABLE_SECONDS = 120
PAUSE_SECONDS = 1.0
QUIET_SECONDS = 20.0


@dataclass(frozen=True)
class Registered:
    """A component's id at the cloud, and whether it was registered just now."""

    id: str
    is_new: bool


def find_registered(subject: Subject, component: Component, target: Target, records: Records) -> str:
    """The id of what was registered of this very component, "" where the cloud has none.

    A record is asked for at the cloud; without one, the cloud may have it under the component's own location.
    """
    role, location = component.role, target.name_location(subject, component)
    values = records.read(REGISTERED)
    if values.get(f"{role}.digest") == component.digest and (known := values.get(f"{role}.id")):
        image = target.compute.find_image(known)
        if image and _is_location(image, location):
            return known
    found = target.compute.find_location(location)
    return found.id if found else ""


def require_whole(bundle: Bundle, known: str, records: Records) -> None:
    """Raise BuildError where the bundle of a registered image is not what was sent: no instance of it could start."""
    name = bundle.component.name
    there = bundle.target.store.list_objects(bucket_of(bundle), name)
    sent = unpack_objects(records.read(UPLOADED).get(f"{bundle.component.role}.objects", ""))
    manifest = there.get(bundle.manifest_name)
    if bundle.manifest_name not in sent and manifest:
        # Without a record of what was sent, the cloud's manifest says which parts there must be.
        data = bundle.target.store.get(bucket_of(bundle), bundle.manifest_name, manifest.size)
        parts = [part for part, _ in parse_manifest(data, bundle.manifest_name).parts]
        faults = [f"{part} of its bundle is gone" for part in parts if part not in there]
    elif bundle.manifest_name not in sent:
        faults = [f"{bundle.manifest_name} of its bundle is gone"]
    else:
        faults = [f"{each} of its bundle is {'another one' if each in there else 'gone'}" for each in sent
                  if each not in there or (there[each].size, there[each].md5) != sent[each]]  # fmt: skip
    if faults:
        raise make_unusable(bundle, f"{known} is registered, and {faults[0]}")


def make_unusable(bundle: Bundle, fact: str) -> BuildError:
    """What is registered is of no use as it is."""
    again = f"doit deregister:{bundle.subject.name} cloud={bundle.target.name}, then publish it again"
    return BuildError(fact, place=bundle.target.name, next_step=again)


def require_own_kernel(bundle: Bundle, known: str) -> None:
    """Raise BuildError where a registered root filesystem names a kernel or ramdisk that is another one by now."""
    image = bundle.target.compute.find_image(known) if bundle.component.role == "root" else None
    named = {"kernel": image.kernel_id, "ramdisk": image.ramdisk_id} if image else {}
    for role, there in named.items():
        if there and there != bundle.ids.get(role, there):
            raise make_unusable(bundle, f"{known} names the {role} {there}, which is {bundle.ids[role]} now")


def adopt_registered(subject: Subject, target: Target, records: Records) -> None:
    """Remember what the cloud has of the image as it is now, where records were lost; of one not built, nothing."""
    if target.dialect.is_amazon:
        return
    with suppress(BuildError):
        for component in subject.list_components():
            if known := find_registered(subject, component, target, records):
                note_registered(Bundle(subject, component, target, {}), records, known)


def _is_location(image: Image, location: str) -> bool:
    """Whether the cloud's image is that of our manifest; some releases put a slash before it."""
    return image.location.lstrip("/") == location


def register_component(bundle: Bundle, records: Records, tell: Tell) -> Registered:
    """Register what was uploaded, unless the cloud has it; BuildError where it was not uploaded."""
    component, target = bundle.component, bundle.target
    if known := find_registered(bundle.subject, component, target, records):
        check_kind(known, component.role, target)
        note_registered(bundle, records, known)
        require_whole(bundle, known, records)
        require_own_kernel(bundle, known)
        drop_begun(bundle, records)
        wait_until_available(known, target, tell)
        return Registered(known, is_new=False)
    if not is_uploaded(bundle, records):
        raise BuildError(f"the cloud has no bundle of {component.file.name} as it is now", place=target.name,
                         next_step=f"doit upload:{bundle.subject.name} cloud={bundle.target.name}")  # fmt: skip
    tell(f"register {component.file.name}")
    known = target.compute.register(locate(bundle), list_settings(bundle))
    check_kind(known, component.role, target)
    note_registered(bundle, records, known)
    drop_begun(bundle, records)
    wait_until_available(known, target, tell)
    return Registered(known, is_new=True)


def list_settings(bundle: Bundle) -> dict[str, str]:
    """What RegisterImage is told beside the location; the connection leaves out what the release does not know."""
    subject, component = bundle.subject, bundle.component
    if not bundle.target.dialect.names_images:
        return {}
    settings = {"Name": component.name, "Description": subject.publish.description, "Architecture": subject.arch}
    if component.role == "root":
        settings |= {"KernelId": bundle.ids.get("kernel", ""), "RamdiskId": bundle.ids.get("ramdisk", "")}
        settings |= {"VirtualizationType": subject.publish.virtualization} if bundle.target.dialect.has_hvm else {}
    return {name: text for name, text in settings.items() if text}


def check_kind(known: str, role: Role, target: Target) -> None:
    """Releases guess what a manifest is of: the id's first letters say what they took it for."""
    letters = {"kernel": ("eki-", "aki-"), "ramdisk": ("eri-", "ari-"), "root": ("emi-", "ami-")}[role]
    if not known.lower().startswith(letters):
        raise CloudError(f"the cloud took the {role} for something else, and calls it {known}", place=target.name,
                         next_step="deregister it there, and look at the cloud's release and dialect")  # fmt: skip


def note_registered(bundle: Bundle, records: Records, known: str) -> None:
    """Remember it; the record of an earlier image is kept aside when something of another one takes its place."""
    role, component = bundle.component.role, bundle.component
    values = records.read(REGISTERED)
    if values.get(f"{role}.id") not in (None, known):
        records.keep_earlier()
    values = {name: text for name, text in values.items() if not name.startswith(f"{role}.")}
    values |= {f"{role}.id": known, f"{role}.digest": component.digest, f"{role}.location": locate(bundle)}
    records.write(REGISTERED, values, "registered")
    drop_secret(records, role)


def wait_until_available(known: str, target: Target, tell: Tell) -> None:
    """Until the cloud can run it; one that fails meanwhile raises CloudError."""
    for passed in wait_for(PAUSE_SECONDS, AVAILABLE_SECONDS):
        found = [image for image in target.compute.list_images([known]) if image.id == known]
        state = found[0].state if found else "gone"
        if state in ("available", ""):
            return
        # A cloud may need a moment to know what it has just registered.
        if state != "pending" and (found or passed > QUIET_SECONDS):
            raise CloudError(f"{known} was registered, and is {state} now", place=target.name,
                             next_step="look into the cloud's own log")  # fmt: skip
        tell(f"{known} is {state}")
    raise CloudError(f"{known} is not available after {AVAILABLE_SECONDS} s", place=target.name,
                     next_step="wait, and run this again: it stays the one")  # fmt: skip


def list_ids(subject: Subject, components: list[Component], records: Records) -> dict[str, str]:
    """Role -> id of kernel and ramdisk: what the recipe names, else what was registered of the image's own."""
    values = records.read(REGISTERED)
    ids = {role: text for role in ("kernel", "ramdisk") if (text := getattr(subject.publish, f"{role}_id"))}
    for component in components:
        if component.role != "root" and values.get(f"{component.role}.digest") == component.digest:
            ids[component.role] = values[f"{component.role}.id"]
    return ids


def take_back(values: Mapping[str, str], target: Target, tell: Tell) -> list[str]:
    """Deregister what a record has, the root filesystem first, and remove its objects; the ids that went."""
    gone = []
    for role in ("root", "ramdisk", "kernel"):
        known, location = values.get(f"{role}.id"), values.get(f"{role}.location", "")
        if not known:
            continue
        tell(f"take back {known}")
        if target.compute.deregister(known):
            gone.append(known)
        gone += take_back_location(location, target, tell)
    return gone


def take_back_location(location: str, target: Target, tell: Tell) -> list[str]:
    """Deregister whatever is registered of that manifest, and remove the bundle; the ids that went.

    A record may have lost the id, or have an earlier one.
    """
    gone = []
    for image in target.compute.list_at(location):
        tell(f"take back {image.id}")
        if target.compute.deregister(image.id):
            gone.append(image.id)
    remove_objects(location, target)
    return gone


def drop_begun(bundle: Bundle, records: Records) -> None:
    """Remove what was sent of earlier images and never registered, now that this one is."""
    values, role = records.read(UPLOADED), bundle.component.role
    begun = list_begun(values, role)
    for location in begun:
        if location != locate(bundle):
            remove_objects(location, bundle.target)
    if begun:
        records.write(UPLOADED, {name: text for name, text in values.items() if name != f"{role}.begun"}, "uploaded")


def remove_objects(location: str, target: Target) -> None:
    """Remove a bundle: the manifest, and every part that lies beside it under its name.

    One that an image is registered of stays.
    """
    bucket, _, manifest = location.partition("/")
    name = manifest.removesuffix(".manifest.xml")
    if not bucket or not name or target.compute.list_at(location):
        return
    for key in sorted(target.store.list_objects(bucket, name), reverse=True):
        # "root-a" begins the name of "root-a-b" too.
        if key == manifest or key.startswith(f"{name}.part."):
            target.store.delete(bucket, key)
