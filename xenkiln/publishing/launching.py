"""Instances of what was registered: started once, found again, watched, ended."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from xenkiln.clouds.compute import ENDED, Instance, wait_for
from xenkiln.clouds.refusals import UNSURE_CODES
from xenkiln.errors import BuildError, CloudError, HostError
from xenkiln.publishing.bundling import Tell
from xenkiln.publishing.instance_types import choose_instance_type
from xenkiln.publishing.records import INSTANCE, REGISTERED, Records
from xenkiln.publishing.registering import adopt_registered
from xenkiln.publishing.subject import Subject
from xenkiln.publishing.target import Target

PAUSE_SECONDS = 1.0
QUIET_SECONDS = 20.0
CLOCK_SECONDS = 900
"""Clouds take requests of a clock that differs by so much."""


@dataclass(frozen=True)
class Wishes:
    """What was asked for on the command line, in place of what the recipe says.

    address: also for an instance that runs already.
    """

    instance_type: str = ""
    keypair: str = ""
    security_groups: tuple[str, ...] = ()
    kernel: str = ""
    ramdisk: str = ""
    zone: str = ""
    addressing: str = ""
    address: str = ""

    def describe(self) -> str:
        """What only a new instance can get, in words."""
        given = {name: text for name, text in asdict(self).items() if text and name != "address"}
        return ", ".join(f"{name} {text if isinstance(text, str) else ' '.join(text)}" for name, text in given.items())


@dataclass(frozen=True)
class Launched:
    """An instance that runs. beside: ids of others of the same image, which nothing here has a record of."""

    instance: Instance
    is_new: bool
    beside: tuple[str, ...] = ()


def launch(
    subject: Subject, target: Target, records: Records, wishes: Wishes, user_data: bytes, tell: Tell
) -> Launched:
    """An instance of the image that runs; one that runs already stays the one.

    Raises BuildError where nothing is registered, or what runs is an earlier image's or was started with other
    wishes; CloudError where it does not come to run.
    """
    beside: tuple[str, ...] = ()
    known = find_instance(target, records)
    if known is None and (known := find_asked(target, records)):
        # Whatever comes of it, it can be ended from now on.
        records.write(INSTANCE, records.read(INSTANCE) | {"id": known.id}, "found")
    is_new = known is None
    if known:
        refuse_other_wishes(subject, target, records, wishes, known)
    else:
        known, beside = start_new(subject, target, records, wishes, user_data, tell)
    values = records.read(INSTANCE)
    known = wait_until_running(known, target, subject.launch.time_limit_seconds, tell)
    if address := wishes.address or subject.launch.address:
        # It may be that an earlier run came to no address.
        if values.get("address") != address:
            target.compute.give_address(known.id, address)
        known = replace(known, public_name=address)
    records.write(INSTANCE, values | {"address": known.public_name}, known.state)
    return Launched(known, is_new, beside)


def start_new(
    subject: Subject, target: Target, records: Records, wishes: Wishes, user_data: bytes, tell: Tell
) -> tuple[Instance, tuple[str, ...]]:
    """A new instance, and the ids of others of the same image that run already."""
    image_id = require_registered(subject, target, records)
    settings = list_settings(subject, target, records, wishes, user_data)
    others = target.compute.list_instances()
    beside = [each.id for each in others if each.image_id == image_id and each.state not in ENDED]
    # A run that is killed before it has the answer is found again by this.
    values = {"image": image_id, "wishes": wishes.describe(), "asked": f"{time.time():.0f}"}
    records.write(INSTANCE, values | {"others": ",".join(each.id for each in others)}, "asked")
    tell(f"run {image_id}")
    known = run_once(target, records, image_id, settings)
    records.write(INSTANCE, values | {"id": known.id}, "started")
    return known, tuple(beside)


def refuse_other_wishes(
    subject: Subject, target: Target, records: Records, wishes: Wishes, running: Instance
) -> None:
    """Raise BuildError where an instance is there that is not what is asked for."""
    asked, had = wishes.describe(), records.read(INSTANCE).get("wishes", "")
    now = records.read(REGISTERED).get("root.id") or require_registered(subject, target, records)
    fact = ""
    if running.image_id and running.image_id != now:
        fact = f"it runs {running.image_id}, an earlier image; published is {now}"
    elif asked and asked != had:
        fact = f"it was started with {had or 'what the recipe says'}; asked for is {asked}"
    if fact:
        again = f"doit terminate:{subject.name} cloud={target.name}, then launch it again"
        raise BuildError(f"{running.id} is {running.state}: {fact}", place=f"{subject.name} at {target.name}",
                         next_step=again)  # fmt: skip


def run_once(target: Target, records: Records, image_id: str, settings: dict[str, Any]) -> Instance:
    """A new instance; where the answer is lost, the one that the cloud has started nevertheless."""
    try:
        return target.compute.run(image_id, settings)
    except CloudError as error:
        if error.code in UNSURE_CODES:
            with suppress(CloudError):
                if found := find_asked(target, records):
                    return found
        else:
            # Nothing was started, so nothing is to be found again.
            records.remove(INSTANCE)
        raise


def require_registered(subject: Subject, target: Target, records: Records) -> str:
    """The id of the image, which the cloud confirms."""
    if not records.read(REGISTERED):
        adopt_registered(subject, target, records)
    known = records.read(REGISTERED).get("root.id", "")
    if not known or target.compute.find_image(known) is None:
        fact = f"the cloud does not know {known} any more" if known else "the image is not published there"
        raise BuildError(fact, place=f"{subject.name} at {target.name}",
                         next_step=f"doit publish:{subject.name} cloud={target.name}")  # fmt: skip
    return known


def find_instance(target: Target, records: Records) -> Instance | None:
    """The recorded instance, where the cloud still has it and it has not ended."""
    found = find_recorded(target, records)
    return found if found and found.state not in ENDED else None


def find_recorded(target: Target, records: Records) -> Instance | None:
    """The recorded instance as long as the cloud knows of it, be it one that has ended by itself."""
    known = records.read(INSTANCE).get("id")
    return target.compute.find_instance(known) if known else None


def find_asked(target: Target, records: Records) -> Instance | None:
    """The instance that a killed run asked for without getting the answer; CloudError where that cannot be told."""
    values = records.read(INSTANCE)
    if "id" in values or not values.get("asked", "").isdecimal():
        return None
    since = int(values["asked"]) - CLOCK_SECONDS
    found = [each for each in target.compute.list_instances()
             if each.image_id == values.get("image") and each.state not in ENDED and each.launched >= since
             and each.id not in values.get("others", "").split(",")]  # fmt: skip
    if len(found) > 1:
        names = ", ".join(each.id for each in found)
        raise CloudError(f"an earlier launch was cut off, and any of {names} may be its",
                         place=target.name, next_step="terminate those that nobody needs, then again")  # fmt: skip
    return found[0] if found else None


def refuse_guess(target: Target, records: Records) -> None:
    """Raise CloudError where an instance may be that of a launch which was cut off: nothing is ended on a guess."""
    if guess := find_asked(target, records):
        raise CloudError(f"a launch was cut off, and {guess.id} may be its", place=target.name,
                         next_step=f"doit launch:{records.folder.name} cloud={target.name} takes it over")  # fmt: skip


def list_settings(
    subject: Subject, target: Target, records: Records, wishes: Wishes, user_data: bytes
) -> dict[str, Any]:
    """What RunInstances is told: the command line's, else the recipe's; kernel and ramdisk as they were registered."""
    launch, values = subject.launch, records.read(REGISTERED)
    ids = {role: getattr(wishes, role) or getattr(launch, role) or getattr(subject.publish, f"{role}_id")
           or values.get(f"{role}.id", "") for role in ("kernel", "ramdisk")}  # fmt: skip
    addressing = wishes.addressing or launch.addressing or ""
    if addressing and target.dialect.is_amazon:
        raise HostError("addressing is of Eucalyptus", place=f"{subject.place}: launch",
                        next_step="leave it out: at Amazon the subnet says so")  # fmt: skip
    groups = wishes.security_groups or launch.security_groups
    zone = wishes.zone or launch.zone
    settings = {
        "InstanceType": choose_instance_type(subject, target, wishes.instance_type or launch.instance_type or ""),
        "KeyName": wishes.keypair or launch.keypair or find_keypair(target),
        "SecurityGroups": list(groups),
        "KernelId": ids["kernel"],
        "RamdiskId": ids["ramdisk"],
        "UserData": user_data,
        "Placement": {"AvailabilityZone": zone} if zone else {},
        "AddressingType": addressing,
    }
    return {name: value for name, value in settings.items() if value}


def find_keypair(target: Target) -> str:
    """The cloud's own key pair, where `doit keypair` has made it."""
    return target.recipe.keypair if target.recipe.keypair in target.compute.list_keypairs() else ""


def wait_until_running(instance: Instance, target: Target, limit_seconds: int, tell: Tell) -> Instance:
    """Follow the instance until it runs; CloudError with the cloud's reason where it ends before, or takes too long."""
    for passed in wait_for(PAUSE_SECONDS, limit_seconds):
        found = target.compute.find_instance(instance.id)
        # A cloud may need a moment to know what it has just started.
        instance = found or instance
        tell(f"{instance.id} is {instance.state}")
        if instance.state == "running":
            return instance
        if instance.state in ENDED and (found or passed > QUIET_SECONDS):
            reason = instance.reason or "the cloud gives no reason"
            raise CloudError(f"{instance.id} has ended before it ran: {reason}", place=target.name,
                             next_step=f"doit cloud:{target.name} shows what is free there")  # fmt: skip
    raise CloudError(f"{instance.id} is still {instance.state} after {limit_seconds} s", place=target.name,
                     next_step="wait, and run this again: the instance stays the one")  # fmt: skip


def read_console(subject: Subject, instance: Instance, target: Target, tell: Tell) -> tuple[bytes, list[str]]:
    """What is on the console once it has all that the image is expected to show, and what of that is missing.

    Where nothing is expected: once something is there, and nothing new has come for a while. An instance that has
    ended will say no more.
    """
    text, grown = b"", 0.0
    missing = list(subject.expected)
    for passed in wait_for(PAUSE_SECONDS, subject.boot_seconds):
        found = target.compute.read_console(instance.id)
        grown = passed if found != text else grown
        text = found
        missing = [each for each in subject.expected if each.encode() not in text]
        is_quiet = bool(text) and passed - grown > QUIET_SECONDS
        if (subject.expected and not missing) or (is_quiet and not subject.expected):
            break
        if is_quiet and ((known := target.compute.find_instance(instance.id)) is None or known.state in ENDED):
            break
        tell(f"{len(text)} bytes so far{f', waits for {missing[0]!r}' if missing else ''}")
    return text, missing


def terminate(target: Target, records: Records, limit_seconds: int, tell: Tell) -> str:
    """End the recorded instance and wait until it has ended; its id, "" where there was none."""
    known = find_instance(target, records)
    refuse_guess(target, records)
    if known is None:
        records.remove(INSTANCE)
        return ""
    target.compute.terminate(known.id)
    for _ in wait_for(PAUSE_SECONDS, limit_seconds):
        found = target.compute.find_instance(known.id)
        if found is None or found.state == "terminated":
            records.remove(INSTANCE)
            return known.id
        tell(f"{known.id} is {found.state}")
    raise CloudError(f"{known.id} has not ended after {limit_seconds} s", place=target.name,
                     next_step="wait, and run this again")  # fmt: skip
