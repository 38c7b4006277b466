"""The `configure` section: what the guest is made to be after its packages are installed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from xenkiln.model.fields import (
    Address,
    GuestPath,
    Hostname,
    InterfaceAddress,
    Line,
    Mode,
    ModuleName,
    Name,
    PasswordHash,
    PlainPath,
    PublicKey,
    RecipePath,
    RepositoryName,
    Section,
    Url,
    UserName,
    Word,
    check_gateway,
    check_guest_path,
    match_shape,
    require_unique,
)

InterfaceName = Annotated[str, match_shape(r"^[a-z][a-z0-9]{1,14}$", "an interface's name, such as eth0")]
VariableName = Annotated[
    str, match_shape(r"^[a-z_][a-z0-9_]*$", "a variable's name: a-z, 0-9 and '_', starting with a letter")
]
Console = Annotated[
    str,
    match_shape(r"^(hvc0|xvc0|tty[0-9]+|ttyS[0-9])$", "hvc0, xvc0, ttyN or ttySN"),
]
TimeZone = Annotated[
    str, match_shape(r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$", "a time zone, such as Europe/Amsterdam")
]


class Interface(Section):
    """One network interface; `address` is needed for a static one, as 10.0.2.50/24."""

    name: InterfaceName
    method: Literal["dhcp", "static"] = "dhcp"
    address: InterfaceAddress | None = None
    gateway: Address | None = None

    @model_validator(mode="after")
    def check_method(self) -> Interface:
        """A static interface has an address and a gateway in its network, a dhcp one has neither."""
        if (self.method == "static") != (self.address is not None):
            raise ValueError("method: static goes with an address, and dhcp without one")
        if self.gateway and self.address:
            check_gateway(self.gateway, [self.address])
        elif self.gateway:
            raise ValueError("a gateway goes with method: static; dhcp brings its own")
        return self


class Network(Section):
    """How the guest reaches the network; `manager` picks the files that are written."""

    manager: Literal["ifcfg", "ifupdown", "networkd", "busybox"] | None = None
    interfaces: tuple[Interface, ...] = (Interface(name="eth0"),)
    gateway: Address | None = None
    dns: tuple[Address, ...] = ()

    @model_validator(mode="after")
    def check_names(self) -> Network:
        """An interface is set up once, and the gateway is behind one of them."""
        require_unique((interface.name for interface in self.interfaces), "name")
        static = [interface.address for interface in self.interfaces if interface.address]
        # A network that dhcp will tell of may hold any gateway.
        if self.gateway and len(static) == len(self.interfaces):
            check_gateway(self.gateway, static)
        return self


EnvironmentName = Annotated[str, match_shape(r"^[A-Za-z_][A-Za-z0-9_]*$", "an environment variable's name")]


class Password(Section):
    """The root password: a hash, or where its clear text is to be read; never the clear text itself."""

    hash: PasswordHash | None = None
    file: Line | None = None
    environment: EnvironmentName | None = None

    @model_validator(mode="after")
    def check_one_source(self) -> Password:
        """Exactly one of the three."""
        if sum(value is not None for value in (self.hash, self.file, self.environment)) != 1:
            raise ValueError("give exactly one of hash, file, environment")
        return self


def check_login_name(value: str) -> str:
    """Refuse the one account that every guest has already."""
    if value == "root":
        raise ValueError("root is in every guest: configure.root_password and configure.ssh_keys are for it")
    return value


LoginName = Annotated[UserName, AfterValidator(check_login_name)]


class User(Section):
    """A login user; uid is given so that the image is the same every time."""

    name: LoginName
    uid: Annotated[int, Field(ge=500, le=59999)]
    groups: tuple[UserName, ...] = ()
    shell: PlainPath = "/bin/sh"
    home: PlainPath | None = None
    password_hash: PasswordHash = "!"  # noqa: S105  (no password at all)
    ssh_keys: tuple[PublicKey, ...] = ()


class DeviceNode(Section):
    """A static device node, for guests whose /dev is not filled at boot."""

    path: GuestPath
    type: Literal["character", "block"] = "character"
    major: Annotated[int, Field(ge=0, le=4095)]
    minor: Annotated[int, Field(ge=0, le=1048575)]
    mode: Mode = "0600"


class FileEntry(Section):
    """A file put into the guest: its text here, a file beside the recipe, or a jinja2 template."""

    path: GuestPath
    content: str | None = None
    source: RecipePath | None = None
    template: RecipePath | None = None
    mode: Mode = "0644"
    owner: Annotated[int, Field(ge=0, le=65535)] = 0
    group: Annotated[int, Field(ge=0, le=65535)] = 0

    @model_validator(mode="after")
    def check_one_source(self) -> FileEntry:
        """Exactly one of the three."""
        if sum(value is not None for value in (self.content, self.source, self.template)) != 1:
            raise ValueError("give exactly one of content, source, template")
        return self


class ScriptEntry(Section):
    """A script run inside the guest's root by its own interpreter, without a network."""

    source: RecipePath | None = None
    content: str | None = None

    @model_validator(mode="after")
    def check_one_source(self) -> ScriptEntry:
        """Exactly one of the two, and a first line that says what runs it."""
        if (self.source is None) == (self.content is None):
            raise ValueError("give exactly one of source, content")
        if self.content is not None and not self.content.startswith("#!/"):
            raise ValueError("the first line must name the interpreter: #!/bin/sh")
        return self


def check_mount_point(value: str) -> str:
    """Take what fstab(5) takes: a folder, or `none` for what has no place in the tree."""
    return value if value == "none" else check_guest_path(value)


MountPoint = Annotated[
    str,
    match_shape(r"^(none|/[A-Za-z0-9._+@/-]+)$", "none, or a path of letters, digits and . _ + @ -"),
    AfterValidator(check_mount_point),
]


class Mount(Section):
    """An extra line of /etc/fstab."""

    what: Word
    where: MountPoint
    type: Name
    options: Word = "defaults"
    dump: Literal[0, 1] = 0
    check_pass: Literal[0, 1, 2] = 0


class GuestRepository(Section):
    """A package source as the guest itself will use it, written to its yum.repos.d."""

    name: RepositoryName
    title: Line
    baseurl: Url
    gpgcheck: bool = True
    gpgkey: Url | None = None
    enabled: bool = True


class GuestSources(Section):
    """The guest's own package sources; left out, they are what the distribution's default is."""

    apt: tuple[Line, ...] = ()
    yum: tuple[GuestRepository, ...] = ()


class Configure(Section):
    """Everything done to the installed tree."""

    hostname: Hostname
    network: Network = Network()
    root_password: Password = Password(hash="!")
    ssh_keys: tuple[PublicKey, ...] = ()
    ssh_key_files: tuple[RecipePath, ...] = ()
    users: tuple[User, ...] = ()
    device_nodes: tuple[DeviceNode, ...] | None = None
    mounts: tuple[Mount, ...] = ()
    load_modules: tuple[ModuleName, ...] = ()
    console: Console = "hvc0"
    disable_tls: bool = False
    fetch_metadata: bool = False
    timezone: TimeZone | None = None
    sources: GuestSources = GuestSources()
    variables: Annotated[dict[VariableName, str], Field(default_factory=dict)]
    files: tuple[FileEntry, ...] = ()
    scripts: tuple[ScriptEntry, ...] = ()

    @model_validator(mode="after")
    def check_unique(self) -> Configure:
        """No entry silently overwrites another."""
        require_unique((user.name for user in self.users), "user name")
        require_unique((user.uid for user in self.users), "uid")
        require_unique((entry.path for entry in self.files), "path")
        require_unique((mount.where for mount in self.mounts if mount.where != "none"), "mount point")
        return self
