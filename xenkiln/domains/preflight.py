"""What would stop a delivery, looked for on the Xen host before anything is changed there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from xenkiln.domains.delivery import ABSENT, CONFIG_FOLDER, FOLDER, FOREIGN, LIVED_IN, OLDER, SAME, Delivery
from xenkiln.domains.placement import HostFile
from xenkiln.errors import HostError
from xenkiln.system.files import allocated_bytes

if TYPE_CHECKING:
    from xenkiln.system.xenhost import Group, XenHost

PROGRAMS = ("cat", "df", "dirname", "du", "head", "mv", "sha256sum", "sync", "wc")
VOLUME_PROGRAMS = ("dd", "lvcreate", "lvs", "vgs")
TOOLSTACKS = ("xl", "xm")
MIB = 1 << 20


def find_missing_programs(delivery: Delivery, host: XenHost) -> list[HostError]:
    """Programs that the host lacks, the toolstack among them."""
    name = host.remote.name
    wanted = PROGRAMS + (VOLUME_PROGRAMS if delivery.deploy.volume_group else ())
    missing = host.find_missing_programs([*wanted, *TOOLSTACKS])
    problems = []
    if lacking := [program for program in missing if program in wanted]:
        advice = "install coreutils, and lvm2 for logical volumes, there"
        problems.append(HostError(f"has no {', '.join(lacking)}", place=name, next_step=advice))
    if host.toolstack in missing:
        others = [toolstack for toolstack in TOOLSTACKS if toolstack not in missing]
        advice = f"toolstack: {others[0]}" if others else "install Xen's tools there and boot it into Xen"
        problems.append(HostError(f"has no {host.toolstack}", place=name, next_step=advice))
    return problems


def find_delivery_problems(
    delivery: Delivery, states: Mapping[str, str], host: XenHost, *, is_running: bool
) -> list[HostError]:
    """Everything in the way; `states` is what is at each path there, the configuration's too."""
    problems = [*_check_own_kernel(delivery, host), *_check_foreign(states, host)]
    if is_running:
        return problems + _check_running(delivery, states, host)
    return [
        *problems,
        *_check_folders(delivery, host),
        *_check_space(delivery, states, host),
        *_check_volumes(delivery, states, host),
    ]


def _check_own_kernel(delivery: Delivery, host: XenHost) -> Iterator[HostError]:
    for file in delivery.files:
        if file.source is None and host.find_kind(file.path) != "file":
            advice = f"put it there, or name one below {delivery.directory} to have the image's own delivered"
            yield HostError("is not there", place=f"{host.remote.name}:{file.path}", next_step=advice)


def _check_foreign(states: Mapping[str, str], host: XenHost) -> Iterator[HostError]:
    for path, state in states.items():
        if state == FOLDER:
            yield HostError("is a folder", place=f"{host.remote.name}:{path}", next_step="give another name")
        elif state == FOREIGN:
            advice = "move it away, or give domain.name, domain.directory or the file another name"
            yield HostError(
                "is there already and no deploy has put it there", place=f"{host.remote.name}:{path}", next_step=advice
            )


def _check_running(delivery: Delivery, states: Mapping[str, str], host: XenHost) -> list[HostError]:
    other = [path for path, state in states.items() if state in (ABSENT, OLDER)]
    if not other:
        return []
    stop = f"{delivery.deploy.toolstack} shutdown {delivery.domain_name}"
    fact = f"{delivery.domain_name} is running there from something else: {', '.join(other)} would change under it"
    return [HostError(fact, place=host.remote.name, next_step=f"`{stop}` there, wait for its end, and run this again")]


def _check_folders(delivery: Delivery, host: XenHost) -> Iterator[HostError]:
    name = host.remote.name
    for folder in (CONFIG_FOLDER, delivery.directory):
        there, can_write = host.find_existing_folder(folder)
        if folder == CONFIG_FOLDER != there:
            yield HostError("is not there", place=f"{name}:{folder}", next_step="is that a Xen host?")
        elif not can_write:
            advice = "log in as root: deploy.user: root"
            yield HostError("cannot be written to", place=f"{name}:{there}", next_step=advice)


def _list_sent(delivery: Delivery, states: Mapping[str, str]) -> list[HostFile]:
    return [file for file in delivery.own_files if states[file.path] in (ABSENT, OLDER)]


def _check_space(delivery: Delivery, states: Mapping[str, str], host: XenHost) -> Iterator[HostError]:
    """The old file stays until the new one is whole, so all of the new one has to fit beside it."""
    files = [file for file in _list_sent(delivery, states) if not delivery.is_volume(file)]
    if not files:
        return
    needed = sum(allocated_bytes(delivery.find_local(file)) + MIB for file in files)
    needed -= host.find_allocated_bytes([f"{file.path}.partial" for file in files])
    folder, _ = host.find_existing_folder(delivery.directory)
    free = host.find_free_bytes(folder)
    if needed > free:
        yield HostError(
            f"{needed // MIB} MiB are needed there, {free // MIB} MiB are free",
            place=f"{host.remote.name}:{folder}",
            next_step="make room there, or give domain.directory on another disk",
        )


def _check_volumes(delivery: Delivery, states: Mapping[str, str], host: XenHost) -> Iterator[HostError]:
    if not delivery.deploy.volume_group:
        return
    group = host.read_group(delivery.deploy.volume_group)
    if group is None:
        advice = "correct deploy.volume_group; `vgs` there lists what there is"
        fact = f"has no volume group {delivery.deploy.volume_group}"
        yield HostError(fact, place=host.remote.name, next_step=advice)
        return
    needed = 0
    for file in _list_sent(delivery, states):
        if delivery.is_volume(file):
            size = group.round_up(delivery.find_local(file).stat().st_size)
            volume = group.volumes.get(PurePosixPath(file.path).name)
            needed += 0 if volume else size
            if volume:
                yield from _check_volume(file, size, group, host)
    if needed > group.free:
        fact = f"{needed // MIB} MiB are needed in it, {group.free // MIB} MiB are free"
        place = f"{host.remote.name}: volume group {delivery.deploy.volume_group}"
        yield HostError(fact, place=place, next_step="make room with lvremove, or give another group")


def _check_volume(file: HostFile, size: int, group: Group, host: XenHost) -> Iterator[HostError]:
    """A volume that is there already is taken only if it fits and nobody uses it."""
    volume = group.volumes[PurePosixPath(file.path).name]
    place = f"{host.remote.name}:{file.path}"
    if volume.size != size:
        fact = f"is {volume.size // MIB} MiB large, the image takes {size // MIB} MiB"
        yield HostError(fact, place=place, next_step=f"lvremove {file.path} there, if nobody needs it")
    if volume.is_open:
        yield HostError("is in use", place=place, next_step="end what uses it: a domain, or a mount")


def describe_states(states: Mapping[str, str]) -> str:
    """What a deploy with nothing to send says."""
    lived_in = [PurePosixPath(path).name for path, state in states.items() if state == LIVED_IN]
    if lived_in:
        return f"nothing to send; {', '.join(lived_in)} kept as the guest has left it"
    return "nothing to send" if set(states.values()) <= {SAME} else ""
