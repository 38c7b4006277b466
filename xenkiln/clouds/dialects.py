"""What the releases of EC2-compatible clouds understand, as data.

Read from the sources of Eucalyptus 1.4 to 5 (its query bindings, Walrus and image manager) and from Amazon's
documentation: each release knows its own signatures, fields and rules for names, and refuses what it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xenkiln.model.cloud import DialectName

OLDEST_API, API_OF_4_4 = "2014-09-01", "2016-09-15"
"""Of those that botocore knows, the latest that the server knows too; before 3.3 a server only repeats it."""
ANY = frozenset({"*"})
REGISTER_1 = frozenset({"ImageLocation"})
REGISTER_3 = REGISTER_1 | {"Name", "Description", "Architecture", "KernelId", "RamdiskId", "VirtualizationType"}
RUN_1 = frozenset({"ImageId", "MinCount", "MaxCount", "KeyName", "SecurityGroup", "UserData", "AddressingType",
                   "InstanceType", "Placement.AvailabilityZone", "KernelId", "RamdiskId"})  # fmt: skip


@dataclass(frozen=True)
class Dialect:
    """How one range of releases is spoken to.

    ec2_signature, s3_signature: by botocore's names, or our own. fields: of RegisterImage and RunInstances those that
    are known, lists without their numbers; a release that fails on unknown ones never gets any other. acl: what parts
    and manifests must allow for the cloud itself to read them. takes_sparse: whether the archive of a bundle may be
    sparse. takes_prefix: whether a manifest may lie below a folder of its bucket. broken_names: a regular expression
    for names that a release cannot keep. bucket_mib: what all objects of a bucket may take. most_buckets: of one user.
    largest_gib: an image that is larger is refused. Each is 0 for no such limit.
    sends_get: requests go as addresses alone. user_data_characters: what of one user-data may take, in base64 and with
    its signs escaped; 0 where it has no place in one.
    """

    ec2_signature: Literal["query-v1", "v2", "v4"]
    s3_signature: Literal["walrus", "s3v4"]
    api_version: str | None
    fields: dict[str, frozenset[str]]
    sends_get: bool = False
    user_data_characters: int = 0
    acl: str = ""
    takes_sparse: bool = True
    lists_encoded: bool = True
    broken_names: str = ""
    bucket_mib: int = 0
    most_buckets: int = 0
    largest_gib: int = 0
    names_images: bool = True
    needs_kernel: bool = False
    has_hvm: bool = True
    is_amazon: bool = False


_TO_2 = {"RegisterImage": REGISTER_1, "RunInstances": RUN_1}
_TO_3 = {"RegisterImage": REGISTER_3, "RunInstances": RUN_1 | {"ClientToken"}}
_LATER = {"RegisterImage": ANY, "RunInstances": ANY}

DIALECTS: dict[DialectName, Dialect] = {
    "eucalyptus-1.4": Dialect("query-v1", "walrus", OLDEST_API, _TO_2, sends_get=True, user_data_characters=2400,
                              takes_sparse=False, lists_encoded=False, broken_names=r"crypt.gz|tgz|.tar",
                              bucket_mib=5 << 10, most_buckets=5, names_images=False, has_hvm=False),
    "eucalyptus-2": Dialect("v2", "walrus", OLDEST_API, _TO_2, lists_encoded=False, names_images=False,
                            has_hvm=False),
    "eucalyptus-3.0": Dialect("v2", "walrus", OLDEST_API, _TO_3, has_hvm=False),
    "eucalyptus-3.3": Dialect("v4", "walrus", OLDEST_API, _LATER, largest_gib=30),
    "eucalyptus-4.0": Dialect("v4", "walrus", OLDEST_API, _LATER, largest_gib=30, needs_kernel=True),
    "eucalyptus-4.2": Dialect("v4", "walrus", API_OF_4_4, _LATER, acl="aws-exec-read", largest_gib=30,
                              needs_kernel=True),
    "eucalyptus-5": Dialect("v4", "s3v4", "2016-11-15", _LATER, acl="aws-exec-read", largest_gib=30, needs_kernel=True),
    "amazon": Dialect("v4", "s3v4", None, _LATER, is_amazon=True),
}  # fmt: skip
