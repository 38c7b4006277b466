"""The kind of instance that an image runs on where nobody names one, and those that no such image runs on."""

from __future__ import annotations

from xenkiln.errors import HostError
from xenkiln.publishing.subject import Subject
from xenkiln.publishing.target import Target

SMALL, NITRO, XEN = "m1.small", "t3.micro", "t2.micro"
PARAVIRTUAL_ALONE = ("t1", "m1", "m2", "c1")
"""Amazon EC2 User Guide, "Linux AMI virtualization types"."""


def choose_instance_type(subject: Subject, target: Target, named: str) -> str:
    """The type that is named, else the cloud's usual one; HostError for one that Amazon never starts the image on.

    At Amazon an hvm image with the ena driver runs on Nitro, and one without on the last of the Xen types.
    """
    if not target.dialect.is_amazon or subject.publish.virtualization != "hvm":
        return named or SMALL
    usual = NITRO if subject.has_ena else XEN
    if named.partition(".")[0] in PARAVIRTUAL_ALONE:
        raise HostError(f"Amazon's {named} runs no hvm image", place=f"{subject.place}: launch.instance_type",
                        next_step=f"take another, such as {usual}, which is the one where none is named")  # fmt: skip
    return named or usual
