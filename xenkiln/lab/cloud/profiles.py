"""What releases of Eucalyptus take and refuse, as data: one line of the table for each that the lab can be.

All of it is read from the servers' sources (eucalyptus/eucalyptus, tags 1.4 to 4.4).
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1 << 30
OLD_PATHS = ("/services/Walrus", "/services/Eucalyptus")
NEW_PATHS = ("/services/objectstorage", "/services/compute")
"""Of S3 and of EC2."""


@dataclass(frozen=True)
class InstanceType:
    """A size of guest."""

    name: str
    vcpus: int
    memory_mib: int
    disk_gib: int


SMALL_TYPES = (
    InstanceType("m1.small", 1, 128, 2),
    InstanceType("c1.medium", 1, 256, 5),
    InstanceType("m1.large", 2, 512, 10),
    InstanceType("m1.xlarge", 2, 1024, 20),
    InstanceType("c1.xlarge", 4, 2048, 20),
)
LARGE_TYPES = (
    InstanceType("t1.micro", 1, 256, 5),
    InstanceType("m1.small", 1, 256, 5),
    InstanceType("m1.medium", 1, 512, 10),
    InstanceType("c1.medium", 2, 512, 10),
    InstanceType("m1.large", 2, 512, 10),
    InstanceType("m1.xlarge", 2, 1024, 10),
    InstanceType("c1.xlarge", 2, 2048, 10),
    InstanceType("m2.xlarge", 2, 2048, 10),
)


@dataclass(frozen=True)
class Profile:
    """One release.

    paths: pairs of S3's and EC2's path, the one that an eucarc names first. query_signatures: versions of EC2's.
    query_methods: 1.4's clients used GET, and nobody has seen its server take a form. skew_seconds: of EC2's
    Timestamp. api_version: in whose namespace it answers where Version is newer than newest_version, or is not looked
    at (1.4). binds_all: a field that an action does not know is refused (EUCA-4840 ended that).
    names_key_by_prefix: vmlinuz* and initrd* are kernels and ramdisks by name. reads_type: of image/type in a manifest.
    verifies: when the manifest's signature is checked; looks_at_signature: at registration it must be one.
    head_bytes: the longest first line and headers; 1.4's servlet engine, Jetty 6, has a buffer of so much for them.
    java_tar: only the first member's raw data, one gzip member.
    """

    name: str
    release: tuple[int, int]
    paths: tuple[tuple[str, str], ...]
    types: tuple[InstanceType, ...]
    query_signatures: frozenset[str]
    query_methods: frozenset[str] = frozenset({"GET", "POST"})
    skew_seconds: int = 900
    head_bytes: int = 0
    api_version: str = "2009-04-04"
    newest_version: str = "9999-12-31"
    binds_all: bool = False
    strips_service_path: bool = False
    storage_v4: bool = False
    head_bucket: bool = True
    first_query_rules: bool = False
    flat_keys: bool = False
    chunked: bool = True
    bucket_limit: int | None = None
    bucket_bytes: int | None = None
    exact_location: bool = False
    names_key_by_prefix: bool = False
    reads_type: bool = False
    verifies: str = "run"
    looks_at_signature: bool = False
    rereads_manifest: bool = False
    java_tar: bool = False
    checks_user: bool = False
    reads_as_system: bool = False
    needs_kernel: bool = False
    checks_names: bool = False
    image_gib: int = 30
    names_missing_ids: bool = False

    @property
    def has_tags(self) -> bool:
        """Tags, filters, key import and client tokens came with the 3 series."""
        return self.release >= (3, 0)


PROFILES = {
    each.name: each
    for each in (
        Profile(
            "1.4", (1, 4), (OLD_PATHS,), SMALL_TYPES, frozenset({"1"}), frozenset({"GET"}), skew_seconds=300,
            head_bytes=4096, api_version="2008-12-01", newest_version="", binds_all=True, head_bucket=False,
            first_query_rules=True, flat_keys=True, chunked=False, bucket_limit=5, bucket_bytes=5 * GIB,
            exact_location=True, names_key_by_prefix=True, looks_at_signature=True, rereads_manifest=True,
            java_tar=True,
        ),
        Profile(
            "2.0", (2, 0), (OLD_PATHS,), SMALL_TYPES, frozenset({"1", "2"}), binds_all=True,
            first_query_rules=True, flat_keys=True, exact_location=True,
            names_key_by_prefix=True, looks_at_signature=True,
        ),
        Profile(
            "3.4", (3, 4), (OLD_PATHS,), LARGE_TYPES, frozenset({"1", "2", "4"}),
            api_version="2013-10-15", newest_version="2013-10-15", strips_service_path=True, checks_names=True,
            names_missing_ids=True,
        ),
        # The real 4.2 and later do not look at a manifest's signature any more; a judge does, as 4.0.2 to 4.1 did.
        Profile(
            "4.4", (4, 4), (NEW_PATHS, OLD_PATHS), LARGE_TYPES, frozenset({"1", "2", "4"}),
            api_version="2016-09-15", newest_version="2016-09-15", strips_service_path=True, storage_v4=True,
            checks_names=True, reads_type=True, verifies="registration", checks_user=True, reads_as_system=True,
            needs_kernel=True, names_missing_ids=True,
        ),
    )
}  # fmt: skip
