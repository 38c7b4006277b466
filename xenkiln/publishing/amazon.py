"""Amazon today: an image as an EBS snapshot, registered as an AMI."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path

from xenkiln.clouds.amis import Ami, Own, deregister_ami, find_ami, list_own, register_ami
from xenkiln.clouds.calls import PATIENCE
from xenkiln.clouds.compute import ENDED
from xenkiln.clouds.ebs import upload_snapshot
from xenkiln.clouds.ebs_state import read_state
from xenkiln.clouds.image_kind import describe_image_kind, find_kind_problem
from xenkiln.clouds.snapshots import delete_snapshot, find_snapshot
from xenkiln.errors import BuildError, CommandError, HostError
from xenkiln.publishing.bundling import Tell
from xenkiln.publishing.records import REGISTERED, Records
from xenkiln.publishing.subject import Component, Subject
from xenkiln.publishing.target import Target
from xenkiln.system.commands import Runner
from xenkiln.system.layout import build_folder

UNKNOWN = "unknown"
STATE_ENDING = ".snapshot.json"
IMAGE, RECIPE, DIGEST, LOCK, REVISION = ("xenkiln:image", "xenkiln:recipe", "xenkiln:digest", "xenkiln:lock",
                                         "xenkiln:revision")  # fmt: skip


def publish_ami(subject: Subject, target: Target, records: Records, tell: Tell) -> tuple[str, bool]:
    """The AMI of the root filesystem or disk, and whether it was registered just now."""
    component = next(each for each in subject.list_components() if each.role == "root")
    connection = target.connection
    if known := find_ami(connection.ec2, component.name, {DIGEST: component.digest}):
        note_ami(records, component, known, find_noted_snapshot(records, known))
        return known, False
    require_bootable(subject, component)
    drop_begun(records, target, tell, keep=state_path(records, component))
    tags = list_tags(subject, component)
    snapshot = upload_snapshot(
        connection.make_ebs(), connection.ec2, component.file, description=component.name, tags=tags,
        state=state_path(records, component), workers=target.parallel, tell=tell, bandwidth=target.bandwidth,
    )  # fmt: skip
    publish = subject.publish
    ami = Ami(component.name, publish.description, subject.arch, publish.virtualization, snapshot,
              publish.boot_mode, _name_root(subject), publish.kernel_id, subject.has_ena, tags=tags)  # fmt: skip
    known = register_ami(connection.ec2, ami, tell=tell)
    note_ami(records, component, known, snapshot)
    state_path(records, component).unlink(missing_ok=True)
    return known, True


def require_ami(subject: Subject) -> None:
    """Raise HostError for what the recipe wants and no AMI can be; known before anything is built.

    (Amazon EC2 User Guide, "User provided kernels": pv-grub boots by the menu in the image's own /boot.)
    """
    publish = subject.publish
    if publish.virtualization == "hvm":
        if publish.boot_mode == "uefi" and not subject.has_ena:
            raise HostError("UEFI is on Nitro alone, which starts no image without the driver ena",
                            place=f"{subject.place}: publish", next_step="ena: true, where the image's kernel has it,"
                            " or boot_mode: legacy-bios")  # fmt: skip
        return
    facts = {
        "Amazon boots a paravirtual image by pv-grub alone":
            (not publish.kernel_id, "publish: {kernel_id: aki-...} with pv-grub's id, or virtualization: hvm"),
        "pv-grub takes the ramdisk from the image itself": (publish.ramdisk_id, "leave publish.ramdisk_id out"),
        "pv-grub finds no kernel and no menu in the image": (not subject.carries_kernel, "kernel: {in_image: true}"),
    }  # fmt: skip
    for fact, (is_so, next_step) in facts.items():
        if is_so:
            raise HostError(fact, place=f"{subject.place}: publish", next_step=next_step)


def require_bootable(subject: Subject, component: Component) -> None:
    """Raise BuildError for an image that would be registered, and never boot."""
    publish = subject.publish
    kind = describe_image_kind(component.file)
    if problem := find_kind_problem(kind, publish.virtualization, publish.boot_mode, bool(publish.kernel_id)):
        raise BuildError(problem, place=f"{subject.place}: publish")


def note_ami(records: Records, component: Component, known: str, snapshot: str) -> None:
    """Remember it; the record of an earlier one is kept aside."""
    if records.read(REGISTERED).get("root.id") not in (None, known):
        records.keep_earlier()
    values = {"root.id": known, "root.digest": component.digest, "root.snapshot": snapshot}
    records.write(REGISTERED, values, "registered")


def find_noted_snapshot(records: Records, known: str) -> str:
    """The snapshot of an AMI by the record of it, "" where there is none."""
    noted = [records.read(REGISTERED), *records.list_earlier().values()]
    return next((each.get("root.snapshot", "") for each in noted if each.get("root.id") == known), "")


def drop_begun(records: Records, target: Target, tell: Tell, keep: Path | None = None) -> None:
    """Delete the snapshots that runs which were cut off have begun of other images: they cost money for ever."""
    ec2 = target.connection.ec2
    for path in sorted(records.folder.glob(f"*{STATE_ENDING}")):
        if path == keep:
            continue
        begun = read_state(path)
        if begun and begun.snapshot_id and find_snapshot(ec2, begun.snapshot_id, PATIENCE).is_ours:
            tell(f"delete {begun.snapshot_id}, which was not finished")
            delete_snapshot(ec2, begun.snapshot_id, PATIENCE)
        path.unlink()


def take_back_ami(values: dict[str, str], target: Target, tell: Tell) -> list[str]:
    """Deregister the AMI of a record, and delete its snapshot; the ids that went."""
    known = values.get("root.id")
    if not known:
        return []
    is_there = bool(target.compute.list_images([known]))
    gone = deregister_ami(target.connection.ec2, known, tell=tell, snapshot_id=values.get("root.snapshot") or None)
    return [*([known] if is_there else []), *gone]


def prune_amis(target: Target, keep: int, tell: Tell) -> tuple[list[str], list[str]]:
    """Take back all but the newest `keep` AMIs of each image; the ids that went, and those that stay."""
    groups: dict[str, list[Own]] = defaultdict(list)
    for each in list_own(target.connection.ec2):
        if name := each.tags.get(IMAGE):
            groups[name].append(each)
    used = {each.image_id for each in target.compute.list_instances() if each.state not in ENDED}
    # What was published last from here may have been so long before.
    used |= {Records(path.parent).read(REGISTERED).get("root.id", "")
             for path in (build_folder() / "clouds" / target.name).glob(f"*/{REGISTERED}.json")}  # fmt: skip
    gone, kept = [], []
    for group in groups.values():
        for number, each in enumerate(sorted(group, key=lambda each: (each.created, each.id), reverse=True)):
            if number < keep or each.id in used:
                kept.append(each.id)
                continue
            deregister_ami(target.connection.ec2, each.id, tell=tell)
            gone.append(each.id)
    return gone, kept


def list_tags(subject: Subject, component: Component) -> dict[str, str]:
    """By which people and `doit prune` find out what an AMI is of."""
    lock = subject.folder / f"{subject.name}.lock.yaml"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else "none"
    return {IMAGE: subject.name, RECIPE: Path(subject.place).name, DIGEST: component.digest, LOCK: digest,
            REVISION: find_revision(subject.folder)}  # fmt: skip


def find_revision(folder: Path) -> str:
    """The git revision that the recipe is of, "-dirty" behind it where something differs from it."""
    try:
        return Runner().read(["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40",
                              "--exclude", "*"]).strip() or UNKNOWN  # fmt: skip
    except (CommandError, HostError):
        return UNKNOWN


def state_path(records: Records, component: Component) -> Path:
    """What a run that was cut off has sent already."""
    return records.folder / f"{component.name}{STATE_ENDING}"


def _name_root(subject: Subject) -> str:
    """What Amazon's own images call the root device: a whole disk of an hvm guest, a partition of the old kind."""
    return "/dev/xvda" if subject.publish.virtualization == "hvm" else f"/dev/{subject.root_device}"
