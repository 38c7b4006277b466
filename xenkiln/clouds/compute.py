"""EC2: images, instances, key pairs and what a cloud has of zones, in every dialect.

Names of fields and states are those of Amazon's API; Eucalyptus answers with the same, or leaves them out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from xenkiln.clouds.connection import Connection
from xenkiln.clouds.ids import check_id
from xenkiln.clouds.refusals import UNSURE_CODES, explain_refusals
from xenkiln.errors import CloudError
from xenkiln.system.commands import make_printable

GONE = ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidInstanceID.NotFound", "NoSuchImage")
"""Of an id that is not there; other words of a server for it are not known, and then it is an error."""
USABLE = ("available", "pending", "")
ENDED = ("terminated", "shutting-down")


@dataclass(frozen=True)
class Image:
    """A registered image: its EMI, EKI or ERI, and `location`, bucket/manifest."""

    id: str
    location: str
    state: str
    kind: str
    name: str = ""
    owner: str = ""
    kernel_id: str = ""
    ramdisk_id: str = ""


@dataclass(frozen=True)
class Instance:
    """An instance. state: pending, running, shutting-down, terminated. launched: seconds since 1970."""

    id: str
    image_id: str
    state: str
    public_name: str = ""
    private_name: str = ""
    kind: str = ""
    zone: str = ""
    keypair: str = ""
    reason: str = ""
    launched: float = 0.0
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Zone:
    """An availability zone; of Eucalyptus also rows of its capacity, "m1.small" with "0004 / 0004 1 128 2"."""

    name: str
    state: str


class Compute:
    """The EC2 service of one cloud."""

    def __init__(self, connection: Connection) -> None:
        self._ec2, self._dialect, self._name = connection.ec2, connection.dialect, connection.name

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        with explain_refusals(f"{self._name}, {what}"):
            yield

    def list_zones(self) -> list[Zone]:
        """Zones, and the capacity of each where the cloud tells it to the word verbose."""
        settings = {} if self._dialect.is_amazon else {"ZoneNames": ["verbose"]}
        with self._asking("availability zones"):
            found = self._ec2.describe_availability_zones(**settings).get("AvailabilityZones") or []
        return [Zone(_read_word(each, "ZoneName"), _read_word(each, "State")) for each in found]

    def list_images(self, ids: Iterable[str] = ()) -> list[Image]:
        """Images of these ids, or all that the user owns; ids that are not there are left out."""
        settings = {"ImageIds": list(ids)} if ids else {"Owners": ["self"]}
        try:
            with self._asking("images"):
                found = self._ec2.describe_images(**settings).get("Images") or []
        except CloudError as error:
            if error.code in GONE:
                return []
            raise
        fields = ("ImageLocation", "State", "ImageType", "Name", "OwnerId", "KernelId", "RamdiskId")
        return [Image(check_id(each.get("ImageId"), "image", f"{self._name}, images"),
                      *(_read_word(each, field) for field in fields)) for each in found]  # fmt: skip

    def find_image(self, image_id: str) -> Image | None:
        """The image of this id, None where the cloud does not know it or cannot run it any more."""
        found = [image for image in self.list_images([image_id]) if image.id == image_id]
        return found[0] if found and found[0].state in USABLE else None

    def find_location(self, location: str) -> Image | None:
        """The usable image that was registered of this manifest."""
        return next(iter(self.list_at(location)), None)

    def list_at(self, location: str) -> list[Image]:
        """Every usable image that was registered of this manifest."""
        # Some releases put a slash before it.
        return [image for image in self.list_images()
                if image.location.lstrip("/") == location and image.state in USABLE]  # fmt: skip

    def register(self, location: str, settings: Mapping[str, str]) -> str:
        """Register a manifest; its new id. `settings` as RegisterImage names them, where the dialect knows them.

        Where the answer is lost, the image that the cloud has of this manifest is the one.
        """
        place = f"register {location}"
        try:
            with self._asking(place):
                known = self._ec2.register_image(ImageLocation=location, **settings).get("ImageId")
            if not known:
                raise CloudError("the cloud gives no id", place=f"{self._name}, {place}", next_step="run it again")
            return check_id(known, "image", f"{self._name}, {place}")
        except CloudError:
            with suppress(CloudError):
                if found := self.find_location(location):
                    return found.id
            raise

    def deregister(self, image_id: str) -> bool:
        """Take an image from the cloud; False where it was not there."""
        try:
            with self._asking(f"deregister {image_id}"):
                self._ec2.deregister_image(ImageId=image_id)
        except CloudError as error:
            if error.code in GONE:
                return False
            raise
        return True

    def run(self, image_id: str, settings: Mapping[str, Any]) -> Instance:
        """Start one instance; `settings` as RunInstances names them."""
        with self._asking(f"run {image_id}"):
            answer = self._ec2.run_instances(ImageId=image_id, MinCount=1, MaxCount=1, **settings)
        instances = self._read_reservation(answer)
        if not instances:
            raise CloudError("the cloud tells of no instance that it has started", place=f"{self._name}, run",
                             next_step="run it again: one that was started is found")  # fmt: skip
        return instances[0]

    def list_instances(self, ids: Iterable[str] = ()) -> list[Instance]:
        """Instances of these ids, or all of the user's; ids that are not there are left out."""
        settings = {"InstanceIds": list(ids)} if ids else {}
        try:
            with self._asking("instances"):
                found = self._ec2.describe_instances(**settings).get("Reservations") or []
        except CloudError as error:
            if error.code in GONE:
                return []
            raise
        return [instance for reservation in found for instance in self._read_reservation(reservation)]

    def _read_reservation(self, reservation: Mapping[str, Any]) -> list[Instance]:
        return [self._read_instance(each) for each in reservation.get("Instances") or ()]

    def _read_instance(self, each: Mapping[str, Any]) -> Instance:
        place = f"{self._name}, instances"
        image = each.get("ImageId")
        return Instance(
            check_id(each.get("InstanceId"), "instance", place), check_id(image, "image", place) if image else "",
            _read_word(each.get("State") or {}, "Name"),
            _read_word(each, "PublicDnsName") or _read_word(each, "PublicIpAddress"),
            _read_word(each, "PrivateDnsName"), _read_word(each, "InstanceType"),
            _read_word(each.get("Placement") or {}, "AvailabilityZone"), _read_word(each, "KeyName"),
            _read_word(each, "StateTransitionReason"),
            each["LaunchTime"].timestamp() if each.get("LaunchTime") else 0.0,
            tuple((_read_word(tag, "Key"), _read_word(tag, "Value")) for tag in each.get("Tags") or ()),
        )  # fmt: skip

    def find_instance(self, instance_id: str) -> Instance | None:
        """The instance of this id, None where the cloud does not know it any more."""
        return next((each for each in self.list_instances([instance_id]) if each.id == instance_id), None)

    def terminate(self, instance_id: str) -> bool:
        """End an instance; False where it was not there."""
        try:
            with self._asking(f"terminate {instance_id}"):
                self._ec2.terminate_instances(InstanceIds=[instance_id])
        except CloudError as error:
            if error.code in GONE:
                return False
            raise
        return True

    def read_console(self, instance_id: str) -> bytes:
        """What the cloud has of an instance's console, b"" before there is any."""
        with self._asking(f"console of {instance_id}"):
            text = self._ec2.get_console_output(InstanceId=instance_id).get("Output") or ""
        return text.encode("utf-8", "surrogateescape")

    def list_keypairs(self) -> dict[str, str]:
        """The names of the user's key pairs, and the fingerprint of each, "" where the cloud tells none."""
        with self._asking("key pairs"):
            found = self._ec2.describe_key_pairs().get("KeyPairs") or []
        return {_read_word(each, "KeyName"): _read_word(each, "KeyFingerprint") for each in found}

    def create_keypair(self, name: str) -> str:
        """Make a key pair that is not there; the private key, which the cloud does not keep.

        One whose private key is lost on its way is of no use, and removed again.
        """
        try:
            with self._asking(f"key pair {name}"):
                material = self._ec2.create_key_pair(KeyName=name).get("KeyMaterial")
            if not material:
                raise CloudError("the cloud gives no private key", place=f"{self._name}, key pair {name}",
                                 next_step="run it again")  # fmt: skip
        except CloudError as error:
            if error.code in UNSURE_CODES:
                with suppress(CloudError):
                    self.delete_keypair(name)
            raise
        return str(material)

    def delete_keypair(self, name: str) -> None:
        """Remove a key pair; one that is not there is fine."""
        with self._asking(f"key pair {name}"):
            self._ec2.delete_key_pair(KeyName=name)

    def give_address(self, instance_id: str, address: str) -> None:
        """Give the instance one of the user's own addresses."""
        which = {"PublicIp": address}
        with self._asking(f"address {address}"):
            if self._dialect.is_amazon:
                # An address of a VPC goes by the id of its allocation alone.
                (found,) = self._ec2.describe_addresses(PublicIps=[address])["Addresses"]
                which = {"AllocationId": found["AllocationId"]} if found.get("AllocationId") else which
            self._ec2.associate_address(InstanceId=instance_id, **which)


def _read_word(described: Mapping[str, Any], field: str) -> str:
    """A text of the cloud's as a terminal may have it, "" where there is none."""
    return make_printable(str(described.get(field) or ""))


def wait_for(pause_seconds: float, limit_seconds: float) -> Iterator[float]:
    """Yield the seconds that have passed, with pauses that grow, until the limit."""
    started = time.monotonic()
    while (passed := time.monotonic() - started) < limit_seconds:
        yield passed
        time.sleep(min(pause_seconds, max(0.0, limit_seconds - passed)))
        pause_seconds = min(pause_seconds * 1.3, 10.0)
