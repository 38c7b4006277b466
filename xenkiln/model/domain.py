"""The `domain` and `deploy` sections: how Xen runs the image, and the host it is taken to."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from xenkiln.model.fields import Line, Name, PlainPath, Section, UserName, match_shape, require_unique

Action = Literal["destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart"]
"""What xl.cfg(5) of Xen 4.17 takes for on_poweroff, on_reboot and on_crash."""


Bridge = Annotated[str, match_shape(r"^[A-Za-z0-9_.-]{1,15}$", "a bridge's name, such as xenbr0")]
Mac = Annotated[
    str,
    match_shape(
        r"^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$", 'an address in quotes, such as "00:16:3e:00:00:01"'
    ),
]
Fingerprint = Annotated[
    str,
    match_shape(r"^SHA256:[A-Za-z0-9+/]{43}=?$", "a fingerprint as ssh-keygen -l prints it: SHA256:..."),
]
VolumeGroup = Annotated[str, match_shape(r"^[A-Za-z0-9+_][A-Za-z0-9+_.-]*$", "a volume group's name")]
FileName = Annotated[
    str,
    match_shape(r"^[A-Za-z0-9][A-Za-z0-9._+@-]*$", "a file's name of letters, digits and . _ + @ -"),
]


class Vif(Section):
    """A virtual network interface; with neither key it is Xen's default one (an empty string in the file)."""

    bridge: Bridge | None = None
    mac: Mac | None = None


class Domain(Section):
    """The Xen domain: written as xl.cfg and as the classic xm file.

    `directory` is where the image lies on the Xen host, `root_file` what its root disk is called there.
    `kernel` and `ramdisk` below `directory` are names for the image's own, anywhere else they are files
    that the Xen host already has. weight is 1..65535 (the credit scheduler's field
    is 16 bits wide), cap a percentage of one cpu, 0 for none.
    """

    type: Literal["pv", "pvh"] = "pv"
    name: Name | None = None
    memory_mib: Annotated[int, Field(ge=16, le=16 * 1024 * 1024)] = 256
    vcpus: Annotated[int, Field(ge=1, le=512)] = 1
    vifs: tuple[Vif, ...] = (Vif(bridge="xenbr0"),)
    root: Line | None = None
    extra: Line = ""
    boot: Literal["kernel", "pygrub"] = "kernel"
    kernel: PlainPath | None = None
    ramdisk: PlainPath | None = None
    directory: PlainPath | None = None
    root_file: FileName | None = None
    on_poweroff: Action = "destroy"
    on_reboot: Action = "restart"
    on_crash: Action = "destroy"
    weight: Annotated[int, Field(ge=1, le=65535)] = 256
    cap: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def check_cap(self) -> Domain:
        """A cap above what the vcpus can use does nothing, so it is a slip; pvh has no pygrub."""
        if self.cap > 100 * self.vcpus:
            raise ValueError(
                f"cap {self.cap} is more than {self.vcpus} vcpus can use ({100 * self.vcpus} at most)"
            )
        if self.type == "pvh" and self.boot == "pygrub":
            raise ValueError("a pvh domain cannot boot by pygrub: boot: kernel")
        require_unique((vif.mac for vif in self.vifs if vif.mac), "mac")
        return self


class Deploy(Section):
    """A Xen host that is reached by ssh; used by `deploy:NAME` only.

    `storage: file` puts disk images into domain.directory; `phy` writes them to logical volumes of
    `volume_group`. The host's key must be in known_hosts or have the given fingerprint (SHA256:...).
    """

    host: Annotated[str, match_shape(r"^[A-Za-z0-9][A-Za-z0-9.:-]*$", "a host's name or address")]
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    user: UserName = "root"
    key_file: Line | None = None
    known_hosts: Line | None = None
    fingerprint: Fingerprint | None = None
    storage: Literal["file", "phy"] = "file"
    volume_group: VolumeGroup | None = None
    toolstack: Literal["xl", "xm"] = "xl"
    start: bool = True

    @model_validator(mode="after")
    def check_storage(self) -> Deploy:
        """Logical volumes need a group to be made in."""
        if (self.storage == "phy") != (self.volume_group is not None):
            raise ValueError("storage: phy goes with a volume_group, and file without one")
        return self
