"""An image recipe: recipes/images/NAME.yaml."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import model_validator

from xenkiln.model.boot import Boot
from xenkiln.model.configure import Configure
from xenkiln.model.domain import Deploy, Domain
from xenkiln.model.fields import (
    Device,
    KeyPath,
    Line,
    ModuleName,
    Name,
    PackageName,
    PlainPath,
    RecipePath,
    RepositoryName,
    Section,
    SizeMib,
    Url,
    Word,
    fault_at,
    match_shape,
    require_unique,
)
from xenkiln.model.publish import Launch, Publish

Filesystem = Literal["ext2", "ext3", "ext4"]

LARGEST_MIB = {"disk": 2 * 1024 * 1024 - 2, "qcow2": 2 * 1024 * 1024 - 2, "vhd": 2040 * 1024 - 1}
"""Of the root filesystem: a partition table counts to 2^32 - 1 sectors, the VHD format to 2040 GiB, and the
first MiB is the partition table's."""


class RootDisk(Section):
    """The root filesystem; `grow` lets the guest enlarge it to its disk at first boot."""

    size_mib: SizeMib
    filesystem: Filesystem = "ext4"
    device: Device = "xvda1"
    mount_options: Word = "defaults"
    grow: bool = False


class SwapDisk(Section):
    """A disk made by mkswap."""

    size_mib: SizeMib
    device: Device


class ExtraDisk(Section):
    """One more filesystem; an ephemeral one may be missing when the guest starts."""

    name: Name
    size_mib: SizeMib
    filesystem: Filesystem = "ext4"
    device: Device
    mount: PlainPath
    mount_options: Word = "defaults"
    ephemeral: bool = False


class Disks(Section):
    """The guest's disks."""

    root: RootDisk
    swap: SwapDisk | None = None
    extra: tuple[ExtraDisk, ...] = ()

    def list_devices(self) -> list[str]:
        """Their names inside the guest, the root's first."""
        devices = [self.root.device, *(disk.device for disk in self.extra)]
        return [*devices, *([self.swap.device] if self.swap else [])]

    @model_validator(mode="after")
    def check_devices(self) -> Disks:
        """No two disks share a device or a name."""
        devices = self.list_devices()
        require_unique(devices, "device")
        for device in devices:
            whole = device.rstrip("0123456789")
            if whole != device and whole in devices:
                raise ValueError(f"{device} is a partition of {whole}, which is another disk here")
        require_unique((disk.mount for disk in self.extra), "mount point")
        names = [disk.name for disk in self.extra]
        if len(set(names)) != len(names) or {"root", "swap", "disk"} & set(names):
            raise ValueError("extra disks need names of their own, other than root, swap and disk")
        return self


class Repository(Section):
    """A yum repository to install from; the second and later baseurls are tried when the first fails.

    `made_here: true` stands for the repository that the task `repository:NAME` makes on this host.
    """

    name: RepositoryName
    title: Line
    baseurls: tuple[Url, ...] = ()
    made_here: bool = False
    enabled: bool = True
    gpgkeys: tuple[KeyPath, ...] = ()

    @model_validator(mode="after")
    def check_place(self) -> Repository:
        """A repository is somewhere: at a url, or made here."""
        if bool(self.baseurls) == self.made_here:
            raise ValueError("give baseurls, or made_here: true")
        return self


Suite = Annotated[str, match_shape(r"^[a-z][a-z0-9/._-]*$", "a suite's name, such as bookworm-updates")]
Component = Annotated[str, match_shape(r"^[a-z][a-z0-9-]*$", "a component's name, such as main")]


class Packages(Section):
    """What is installed and from where.

    Debian family: `mirrors` (none: the host's own, else what mmdebstrap knows), `suites`,
    `components`, `variant`, `keyring`. rpm family: `repositories`, `groups`.
    """

    mirrors: tuple[Url, ...] = ()
    suites: tuple[Suite, ...] = ()
    components: tuple[Component, ...] = ("main",)
    variant: Literal["essential", "apt", "minbase", "important"] = "minbase"
    keyring: KeyPath | None = None
    repositories: tuple[Repository, ...] = ()
    groups: tuple[PackageName, ...] = ()
    install: tuple[PackageName, ...] = ()
    exclude: tuple[PackageName, ...] = ()
    weak_dependencies: bool = False
    signatures: Literal["required", "not checked"] = "required"

    @model_validator(mode="after")
    def check_repositories(self) -> Packages:
        """Repositories have names of their own: they become sections of one file."""
        require_unique((repository.name for repository in self.repositories), "name")
        return self

    @model_validator(mode="after")
    def check_exclude(self) -> Packages:
        """No package is wanted and not wanted; =VERSION says only which one."""
        wanted = {word.partition("=")[0] for word in self.install}
        both = [word for word in self.exclude if word.partition("=")[0] in wanted]
        if both:
            raise ValueError(f"{', '.join(both)} cannot be in both install and exclude")
        return self


KernelVersion = Annotated[
    str, match_shape(r"^[A-Za-z0-9][A-Za-z0-9+~._-]*$", "a kernel's version, as uname -r prints it")
]


class Kernel(Section):
    """Where the kernel comes from.

    package: the newest (or `version`) that the installed packages put into the image's /boot;
    host: /boot/vmlinuz-VERSION and /lib/modules/VERSION of the building host, `version` or the
    running one; files: `vmlinuz` and `modules` (a folder named for the version) beside the recipe.
    `in_image` leaves kernel, ramdisk and a boot loader's menu in the image's own /boot.
    """

    source: Literal["package", "host", "files"] = "package"
    version: KernelVersion | None = None
    vmlinuz: RecipePath | None = None
    modules: RecipePath | None = None
    in_image: bool = False

    @model_validator(mode="after")
    def check_files(self) -> Kernel:
        """`files` needs to know which."""
        if (self.source == "files") != (self.vmlinuz is not None):
            raise ValueError("source: files goes with vmlinuz (and modules), the others without")
        return self


RoomName = Annotated[str, match_shape(r"^[a-z][a-z0-9_]*$", "one lower-case word")]
"""A module's name below xenkiln/families or xenkiln/ramdisks."""


class Ramdisk(Section):
    """How the ramdisk is made: `maker` is a module of xenkiln/ramdisks."""

    maker: RoomName
    modules: tuple[ModuleName, ...] = ()
    preload: tuple[ModuleName, ...] = ()


SigningKey = Annotated[
    str,
    match_shape(r"^[A-Za-z0-9][A-Za-z0-9@._ <>+-]*$", "a key's id or address, as gpg --local-user takes it"),
]


class ImageRecipe(Section):
    """A Xen guest image. The name is the file's."""

    summary: Line
    default: bool = False
    family: RoomName
    release: Line
    arch: Literal["x86_64", "i386"] = "x86_64"
    disks: Disks
    packages: Packages
    configure: Configure
    kernel: Kernel = Kernel()
    ramdisk: Ramdisk
    domain: Domain = Domain()
    boot: Boot = Boot()
    shapes: tuple[Literal["disk", "qcow2", "vhd"], ...] = ()
    signing_key: SigningKey | None = None
    deploy: Deploy | None = None
    publish: Publish = Publish()
    launch: Launch = Launch()

    @model_validator(mode="after")
    def check_boot_files(self) -> ImageRecipe:
        """A partitioned disk and pygrub both boot by what the image itself carries."""
        wanted = "kernel.in_image: true is needed, to have something to boot"
        if self.shapes and not self.kernel.in_image:
            raise fault_at(("shapes",), wanted)
        if self.domain.boot == "pygrub" and not self.kernel.in_image:
            raise fault_at(("domain", "boot"), wanted)
        return self

    @model_validator(mode="after")
    def check_published_disk(self) -> ImageRecipe:
        """What is published for hvm is the disk."""
        if self.publish.virtualization == "hvm" and "disk" not in self.shapes:
            raise fault_at(("publish", "virtualization"), "hvm boots a disk: shapes: [disk] is needed, to have one")
        return self

    @model_validator(mode="after")
    def check_root_device(self) -> ImageRecipe:
        """A root device by its name is one of the disks, or a partition of one; LABEL= and the like can be any."""
        named = re.match(r"/dev/((?:xvd|sd|hd)[a-z]+)([0-9]*)(?:\s|$)", self.domain.root or "")
        devices = self.disks.list_devices()
        if named and not {named[1], named[1] + named[2]}.intersection(devices):
            fact = f"/dev/{named[1]}{named[2]} is none of the disks, which are {', '.join(devices)}"
            raise fault_at(("domain", "root"), fact)
        return self

    @model_validator(mode="after")
    def check_sizes(self) -> ImageRecipe:
        """A disk of its own has a limit that a bare filesystem does not have."""
        for shape in self.shapes:
            if self.disks.root.size_mib > LARGEST_MIB[shape]:
                fact = f"{self.disks.root.size_mib} is too large for the shape {shape}: {LARGEST_MIB[shape]} at most"
                raise fault_at(("disks", "root", "size_mib"), fact)
        return self
