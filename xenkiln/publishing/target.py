"""The cloud that is published to: its recipe, its dialect, who the user is there, and the connection to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from xenkiln.clouds.access import Access, find_access
from xenkiln.clouds.credentials import Credentials, find_credentials
from xenkiln.clouds.dialects import DIALECTS, Dialect
from xenkiln.errors import HostError, XenkilnError
from xenkiln.model.cloud import CloudCredentials, CloudRecipe
from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.subject import Component, Role, Subject

if TYPE_CHECKING:
    from pathlib import Path

    from xenkiln.clouds.bandwidth import Bandwidth
    from xenkiln.clouds.compute import Compute
    from xenkiln.clouds.connection import Connection
    from xenkiln.clouds.store import Store

MIB = 1 << 20
PARTS, BLOCKS = 4, 32
"""What is sent at the same time: Amazon's blocks are 512 KiB, and many of them hide how long each answer takes."""


@dataclass(frozen=True)
class Target:
    """A cloud, by its recipe; nothing is looked for or asked before it is needed. place: the recipe's file."""

    name: str
    place: str
    recipe: CloudRecipe

    @property
    def dialect(self) -> Dialect:
        """What it understands."""
        return DIALECTS[self.recipe.dialect]

    @cached_property
    def access(self) -> Access:
        """Its address and the user's keys to its services."""
        return find_access(self.recipe, os.environ, self.place)

    @cached_property
    def credentials(self) -> Credentials:
        """The user's key and certificates, which bundles are made with."""
        return find_credentials(os.environ, self.recipe, self.place)

    @cached_property
    def connection(self) -> Connection:
        """Clients of its services."""
        from xenkiln.clouds.connection import connect  # boto3 takes a moment, and `doit list` needs none of it

        return connect(self.name, self.dialect, self.access, timeout_seconds=self.recipe.timeout_seconds,
                       threads=self.parallel)  # fmt: skip

    @property
    def parallel(self) -> int:
        """How many parts or blocks are sent at the same time."""
        return self.recipe.parallel or (BLOCKS if self.dialect.is_amazon else PARTS)

    @cached_property
    def bandwidth(self) -> Bandwidth | None:
        """The limit of all that is sent there."""
        from xenkiln.clouds.bandwidth import Bandwidth

        limit = self.recipe.bandwidth_mib
        return Bandwidth(limit * MIB) if limit else None

    @cached_property
    def store(self) -> Store:
        """Its buckets."""
        from xenkiln.clouds.store import Store

        return Store(self.connection, self.bandwidth)

    @cached_property
    def compute(self) -> Compute:
        """Its images and instances."""
        from xenkiln.clouds.compute import Compute

        return Compute(self.connection)

    def find_bucket(self, subject: Subject, role: Role) -> str:
        """Where a component goes; HostError where neither recipe says."""
        publish = subject.publish
        bucket = getattr(publish.buckets, role) or publish.bucket or self.recipe.bucket
        if not bucket:
            raise HostError(f"it is not said into which bucket the {role} goes", place=subject.place,
                            next_step=f"publish: {{bucket: NAME}}, or bucket: NAME in {self.place}")  # fmt: skip
        return str(bucket)

    def name_location(self, subject: Subject, component: Component) -> str:
        """Bucket and manifest, as RegisterImage wants them."""
        return f"{self.find_bucket(subject, component.role)}/{component.name}.manifest.xml"


def make_target(loaded: LoadedCloud, eucarc: Path | None = None) -> Target:
    """A cloud of this recipe; `eucarc` is that of an embedded one, which runs."""
    recipe = loaded.recipe
    if eucarc is not None:
        recipe = recipe.model_copy(update={"credentials": CloudCredentials.model_construct(eucarc=str(eucarc))})
    return Target(loaded.name, loaded.file, recipe)


def find_misfits(subject: Subject, target: Target) -> Iterator[XenkilnError]:
    """What of the image this cloud cannot take; known before anything is made or sent."""
    dialect, publish = target.dialect, subject.publish
    if publish.virtualization == "hvm" and (target.recipe.embedded or not dialect.has_hvm):
        who = "the lab's own cloud" if target.recipe.embedded else target.recipe.dialect
        yield HostError(f"{who} runs no hvm guests", place=subject.place,
                        next_step="publish: {virtualization: paravirtual}")  # fmt: skip
    is_whole = {"kernel", "ramdisk"} <= {*subject.files, *(role for role in ("kernel", "ramdisk")
                                                           if getattr(publish, f"{role}_id"))}  # fmt: skip
    if dialect.needs_kernel and publish.virtualization == "paravirtual" and not is_whole:
        yield HostError(f"{target.recipe.dialect} takes no paravirtual image without a kernel and a ramdisk",
                        place=subject.place, next_step="publish: {kernel_id: eki-..., ramdisk_id: eri-...} names"
                        " what the cloud has")  # fmt: skip
    if not dialect.is_amazon and (publish.boot_mode or publish.ena is not None):
        field = "boot_mode" if publish.boot_mode else "ena"
        yield HostError(f"{field} is Amazon's", place=subject.place, next_step="leave it out for this cloud")
    for role in subject.files if not dialect.is_amazon else ():
        try:
            target.find_bucket(subject, role)
        except HostError as error:
            yield error
            break
