"""The `publish` and `launch` sections: how an image is given to a cloud, and how an instance of it is started there."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from xenkiln.model.fields import Address, Name, RecipePath, Section, Word, check_line, match_shape

BucketName = Annotated[
    str,
    match_shape(
        r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        "a bucket's name: 3 to 63 lower-case letters, digits, '.' and '-', a letter or digit at either end",
    ),
]
"""What Amazon and every Eucalyptus take."""
KernelId = Annotated[str, match_shape(r"^[ae]ki-[0-9A-Fa-f]{8,17}$", "a kernel's id, such as eki-38AC43DC")]
RamdiskId = Annotated[str, match_shape(r"^[ae]ri-[0-9A-Fa-f]{8,17}$", "a ramdisk's id, such as eri-98FE2101")]
KeyPairName = Annotated[
    str, match_shape(r"^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,99}$", "a key pair's name: letters, digits and _ . @ -")
]
Description = Annotated[str, Field(max_length=255), AfterValidator(check_line)]
"""What Amazon and Eucalyptus take."""
GroupName = Annotated[str, match_shape(r"^[A-Za-z0-9_][A-Za-z0-9_ .-]{0,99}$", "a security group's name")]


class Buckets(Section):
    """Where each component goes, where that is not one bucket for all."""

    kernel: BucketName | None = None
    ramdisk: BucketName | None = None
    root: BucketName | None = None


class Publish(Section):
    """Which cloud an image goes to, and as what.

    cloud: a recipe of recipes/clouds. kernel_id and ramdisk_id name what that cloud has already, in place of the
    image's own. ena: whether the image's kernel has Amazon's network driver. reproducible: the same key, iv and parts
    for the same image and the same user's key (from 8 GiB on: for one with the same holes).
    """

    cloud: Name = "lab"
    bucket: BucketName | None = None
    buckets: Buckets = Buckets()
    description: Description = ""
    virtualization: Literal["paravirtual", "hvm"] = "paravirtual"
    boot_mode: Literal["legacy-bios", "uefi", "uefi-preferred"] | None = None
    ena: bool | None = None
    kernel_id: KernelId | None = None
    ramdisk_id: RamdiskId | None = None
    reproducible: bool = False

    @model_validator(mode="after")
    def check_virtualization(self) -> Publish:
        """A machine that boots by itself has no kernel beside it, and only such a one has a boot mode."""
        if self.virtualization == "hvm" and (self.kernel_id or self.ramdisk_id):
            raise ValueError("hvm boots what is on its disk: kernel_id and ramdisk_id go with paravirtual")
        if self.boot_mode and self.virtualization != "hvm":
            raise ValueError("boot_mode goes with virtualization: hvm")
        if self.ena and self.virtualization != "hvm":
            raise ValueError("ena goes with virtualization: hvm")
        return self


class Launch(Section):
    """How an instance is started, as ec2-run-instances has it.

    user_data: a template beside the recipe, which sees name, hostname, arch, cloud and `variables`. kernel and ramdisk
    take the place of those that were registered with the image. address: one of the user's own, given to the instance.
    """

    instance_type: Word | None = None
    keypair: KeyPairName | None = None
    security_groups: tuple[GroupName, ...] = ()
    user_data: RecipePath | None = None
    variables: dict[str, str] = Field(default_factory=dict)
    kernel: KernelId | None = None
    ramdisk: RamdiskId | None = None
    zone: Word | None = None
    addressing: Literal["public", "private"] | None = None
    address: Address | None = None
    time_limit_seconds: Annotated[int, Field(ge=5, le=3600)] = 300
