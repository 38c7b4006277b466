"""What a Xen domain's configuration may say: xl takes unknown keys, any weight and any cap in silence."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from xenkiln.errors import Problem
from xenkiln.model.domain_config import Setting, Value, parse_config
from xenkiln.model.fields import find_repeated
from xenkiln.model.wording import suggest

Kind = Literal["xl", "xm"]

MAX_COMMAND_LINE = 1023
"""Characters of root= and extra together: MAX_GUEST_CMDLINE of xen/public/xen.h, less the final zero."""

MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}", re.IGNORECASE)
DEVICE = re.compile(r"(sd|hd|xvd)[a-p][0-9]{0,2}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
CLASSIC_DISK = re.compile(r"(?:file|phy|tap:aio):(?P<target>/[^,]+),(?P<vdev>[^,]+),(?P<access>r|w|ro|rw)")
ACTIONS = ("destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart")
ACCESS = ("r", "ro", "w", "rw")
FORMATS = ("raw", "qcow2", "vhd")

Check = Callable[[Value], str]
"""From a value to what is wrong with it, "" for nothing."""


def check_config(text: str, kind: Kind, *, place: str = "") -> list[Problem]:
    """Everything wrong with a PV or PVH domain's file of xl (xl.cfg(5), Xen 4.17) or xm (Xen 3 and 4.0).

    Unknown and repeated keys, values out of range, and what is missing. `place` names the file.
    """
    try:
        settings = parse_config(text)
    except ValueError as error:
        line, fact = error.args
        return [Problem(place, line, "", fact)]
    rules = COMMON | (XL_ONLY if kind == "xl" else XM_ONLY)
    problems = []
    for setting in settings:
        if setting.key not in rules:
            fact = f"unknown key{suggest(setting.key, list(rules))}"
        else:
            fact = rules[setting.key](setting.value)
        if fact:
            problems.append(Problem(place, setting.line, setting.key, fact))
    problems += [Problem(place, 0, key, "is set twice") for key in find_repeated(s.key for s in settings)]
    return problems + [Problem(place, 0, key, fact) for key, fact in _check_whole(settings)]


def _check_whole(settings: list[Setting]) -> list[tuple[str, str]]:
    """What shows only when the settings are seen together."""
    values = {setting.key: setting.value for setting in settings}
    found = [(key, "is missing") for key in ("name", "memory") if key not in values]
    if "kernel" not in values and "bootloader" not in values:
        found.append(("kernel", "is missing, and there is no bootloader to find one"))
    if values.get("type") == "pvh" and "bootloader" in values:
        found.append(("bootloader", "pvh domains have none: name a kernel"))
    vcpus = _to_number(values.get("vcpus", 1)) or 1
    for key in ("cap", "cpu_cap"):
        cap = _to_number(values.get(key, 0)) or 0
        if cap > 100 * vcpus:
            found.append((key, f"{cap} is more than {vcpus} vcpus can use ({100 * vcpus} at most)"))
    length = len(f"root={values.get('root', '')} {values.get('extra', '')}")
    if length > MAX_COMMAND_LINE:
        found.append(("extra", f"the command line has {length} characters, {MAX_COMMAND_LINE} at most"))
    return found


def _to_number(value: Value) -> int | None:
    """A number as it is or in quotes, which xl and xm take too."""
    if isinstance(value, str):
        return int(value) if re.fullmatch("0|[1-9][0-9]*", value) else None
    return value if isinstance(value, int) else None


def _in_range(low: int, high: int) -> Check:
    def check(value: Value) -> str:
        number = _to_number(value)
        if number is None:
            return f"{value!r} is not a whole number"
        return "" if low <= number <= high else f"{number} is not in {low}..{high}"

    return check


def _matching(pattern: str, words: str) -> Check:
    def check(value: Value) -> str:
        return "" if isinstance(value, str) and re.fullmatch(pattern, value) else f"{value!r} is not {words}"

    return check


def _among(*known: str) -> Check:
    def check(value: Value) -> str:
        return "" if value in known else f"{value!r} is not known{suggest(str(value), list(known))}"

    return check


def _each(check_item: Callable[[str], str]) -> Check:
    def check(value: Value) -> str:
        if not isinstance(value, tuple):
            return "is not a list"
        facts = [check_item(item) if isinstance(item, str) else f"{item!r} is not text" for item in value]
        return "; ".join(fact for fact in facts if fact)

    return check


def _split_pairs(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _check_disk_parts(parts: dict[str, str], text: str) -> str:
    if not DEVICE.fullmatch(parts.get("vdev", "")):
        return f"{text!r} names no disk of the guest such as xvda1"
    if parts.get("access", "rw") not in ACCESS:
        return f"{text!r}: access is one of {', '.join(ACCESS)}"
    return "" if parts.get("target", "").startswith("/") else f"{text!r}: the target is not an absolute path"


def _check_classic_disk(text: str) -> str:
    match = CLASSIC_DISK.fullmatch(text)
    return _check_disk_parts(match.groupdict(), text) if match else f"{text!r} is not file:/PATH,DEVICE,w"


def _check_xl_disk(text: str) -> str:
    if CLASSIC_DISK.fullmatch(text):
        return _check_classic_disk(text)
    parts = _split_pairs(text)
    if unknown := sorted(parts.keys() - {"format", "vdev", "access", "target"}):
        return f"{text!r} has the unknown key {unknown[0]}"
    if list(parts)[-1:] != ["target"]:
        return f"{text!r}: target comes last, for it takes all that follows"
    if parts.get("format", "raw") not in FORMATS:
        return f"{text!r}: format is one of {', '.join(FORMATS)}"
    return _check_disk_parts(parts, text)


def _check_vif(text: str) -> str:
    """An empty one is Xen's default."""
    parts = _split_pairs(text)
    if unknown := sorted(parts.keys() - {"bridge", "mac"}):
        return f"{text!r} has the unknown key {unknown[0]}"
    if "mac" in parts and not MAC.fullmatch(parts["mac"]):
        return f"{parts['mac']!r} is not the address of one interface, such as 00:16:3e:00:00:01"
    if "bridge" in parts and not NAME.fullmatch(parts["bridge"]):
        return f"{parts['bridge']!r} is not a bridge's name"
    return ""


_path = _matching(r"/[^\n]+", "an absolute path")
_line = _matching(r"[ -~]*", "one line of printable ASCII characters")
_action = _among(*ACTIONS)

COMMON: dict[str, Check] = {
    "name": _matching(NAME.pattern, "a domain's name"),
    "kernel": _path,
    "ramdisk": _path,
    "root": _line,
    "extra": _line,
    "memory": _in_range(16, 16 * 1024 * 1024),
    "vcpus": _in_range(1, 512),
    "vif": _each(_check_vif),
    "on_poweroff": _action,
    "on_reboot": _action,
    "on_crash": _action,
    # The scheduler's field is 16 bits wide (xen/domctl.h).
    "cpu_weight": _in_range(1, 65535),
}
XL_ONLY: dict[str, Check] = {
    "type": _among("pv", "pvh"),
    "bootloader": _matching(r"/[^\n]+|pygrub", "pygrub or an absolute path"),
    "disk": _each(_check_xl_disk),
    "cap": _in_range(0, 100 * 512),
}
XM_ONLY: dict[str, Check] = {
    "bootloader": _path,
    "disk": _each(_check_classic_disk),
    "cpu_cap": _in_range(0, 100 * 512),
}
