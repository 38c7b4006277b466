"""Regions and users of euca2ools.ini, read by the rules of euca2ools 3.

Source: euca2ools.ini(5) of euca2ools 3.4 and what requestbuilder 0.7, which reads it there, does beyond that page.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from configparser import ConfigParser, Error, MissingSectionHeaderError, ParsingError
from dataclasses import dataclass, field
from pathlib import Path

from xenkiln.clouds.settings import Role, Setting, Source, warn_of_readers
from xenkiln.errors import HostError

SYSTEM_FOLDER = Path("/etc/euca2ools")
USER_FOLDER = Path("~/.euca")
OF_REGION: dict[Role, str] = {"ec2_url": "ec2-url", "s3_url": "s3-url", "cloud_certificate": "certificate",
                              "verify": "verify-ssl"}  # fmt: skip
OF_USER: dict[Role, str] = {"access_key": "key-id", "secret_key": "secret-key", "account": "account-id",
                            "certificate": "certificate", "private_key": "private-key"}  # fmt: skip
PATHS: frozenset[Role] = frozenset({"certificate", "private_key", "cloud_certificate"})
USER_OPTIONS = ("user", "default-user")
"""The second is what 3.0 called it."""

Sections = dict[str, dict[str, Setting]]


@dataclass(frozen=True)
class Ini:
    """All files as one: sections by their name, without "region" or "user" before it. Values keep their file."""

    common: dict[str, Setting] = field(default_factory=dict)
    regions: Sections = field(default_factory=dict)
    users: Sections = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """A setting, and the section that it is really of, after all wildcards and references."""

    setting: Setting
    section: str


def list_files() -> list[Path]:
    """In the order in which they are read: a later one counts more."""
    home = USER_FOLDER.expanduser()
    return [*filter(Path.exists, [SYSTEM_FOLDER / "euca2ools.ini"]), *sorted(SYSTEM_FOLDER.glob("conf.d/*.ini")),
            *sorted(home.glob("*.ini"))]  # fmt: skip


def read_ini(files: list[Path]) -> Ini:
    """What they say together; a file that may not be read is left out, as euca2ools does, and remembered."""
    ini = Ini()
    for path in files:
        try:
            text = path.read_text(encoding="utf-8-sig", errors="replace")
        except OSError:
            ini.unreadable.append(path)
            continue
        ini.files.append(path)
        parser = parse_ini(text, str(path))
        for section in parser.sections():
            _add_section(ini, section, dict(parser.items(section)), path)
    return ini


def parse_ini(text: str, place: str) -> ConfigParser:
    """As Python 2 read them, but nothing after a % is special. Errors show no line: it could be the secret one."""
    parser = ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=(";",))
    step = "it takes [region NAME], [user NAME] and lines of NAME = VALUE, see euca2ools.ini(5)"
    try:
        parser.read_string(text)
    except MissingSectionHeaderError as error:
        raise HostError("something stands before the first [section]", place=f"{place}:{error.lineno}",
                        next_step=step) from None  # fmt: skip
    except ParsingError as error:
        line = error.errors[0][0] if error.errors else 0
        raise HostError("is no section, setting or comment", place=f"{place}:{line}", next_step=step) from None
    except (Error, ValueError, AttributeError, TypeError):
        raise HostError("is no ini file", place=place, next_step=step) from None
    return parser


def _add_section(ini: Ini, section: str, options: Mapping[str, str], path: Path) -> None:
    kind, *words = section.split() or [""]
    if section == "global":
        ini.common.update({name: Setting(value, f"{path}: [global] {name}") for name, value in options.items()})
    if kind not in ("region", "user") or not words:
        return  # as in euca2ools: later releases may have more kinds
    name = words[0]
    if "@" in name or "" in name.split(":"):
        raise HostError("a name has no @ and nothing empty between colons", place=f"{path}: [{section}]",
                        next_step="rename the section")  # fmt: skip
    target = (ini.regions if kind == "region" else ini.users).setdefault(name, {})
    target.update({key: Setting(value, f"{path}: [{kind} {name}] {key}") for key, value in options.items()})
    if "secret-key" in options:
        warn_of_readers(path)


def look_up(sections: Sections, name: str, option: str, seen: tuple[tuple[str, str], ...] = ()) -> Found | None:
    """An option of a section, else of the wildcards that cover it, the nearest first.

    A name without its group will do ("us-east-1" of "aws:us-east-1") where only one group has it.
    """
    if (name, option) in seen:
        raise HostError(f"{option} refers to itself", place=f"euca2ools.ini: [{name}]",
                        next_step="end the chain of `use`")  # fmt: skip
    seen = (*seen, (name, option))
    for section in _list_covering(sections, name):
        if setting := sections[section].get(option):
            words = setting.value.split()
            if words[:1] != ["use"]:
                return Found(setting, section)
            if len(words) == 1:
                raise HostError("`use` names no section", place=setting.label, next_step="write use SECTION")
            return look_up(sections, words[1], words[2] if len(words) > 2 else option, seen)
    if nearest := _list_longer(sections, name):
        if len(nearest) > 1:
            raise HostError(f"{name!r} could be {' or '.join(sorted(nearest))}", place="euca2ools.ini",
                            next_step="write the name with its group")  # fmt: skip
        return look_up(sections, nearest[0], option, seen)
    setting = sections.get("*", {}).get(option)
    return Found(setting, "*") if setting else None


def _list_covering(sections: Sections, name: str) -> list[str]:
    """The section itself and those with * in place of parts of the name, the last parts first; not the bare *."""
    parts = name.split(":")
    covering = [(section.split(":"), section) for section in sections if section != "*"]
    fitting = [(tuple(part == "*" for part in own), section) for own, section in covering
               if len(own) == len(parts) and all(a in ("*", b) for a, b in zip(own, parts, strict=True))]  # fmt: skip
    return [section for _, section in sorted(fitting)]


def _list_longer(sections: Sections, name: str) -> list[str]:
    parts = name.split(":")
    longer = [section for section in sections if section.count(":") >= len(parts)
              and section.split(":")[-len(parts):] == parts]  # fmt: skip
    least = min((section.count(":") for section in longer), default=0)
    return [section for section in longer if section.count(":") == least]


def read_region(wanted: str, place: str) -> Source:
    """What REGION, USER@REGION or USER@ (of the default region) of all files say together."""
    ini = read_ini(list_files())
    user, at, region = wanted.rpartition("@")
    if at and not region:
        region = ini.common["default-region"].value if "default-region" in ini.common else ""
    where = f"{place}: credentials.region: {wanted}"
    if not region or not (_list_covering(ini.regions, region) or _list_longer(ini.regions, region)):
        raise _describe_unknown(ini, region, where)
    user = user or _find_user(ini, region)
    settings = dict(_list_settings(ini.regions, region, OF_REGION)) | _name_region(ini.regions, region)
    settings |= dict(_list_settings(ini.users, user, OF_USER)) if user else {}
    own = f"[user {user}]" if user else f"the [user ...] section: nor does `user` in [region {region}] name one"
    names: dict[Role, str] = {role: f"{option} in {own}" for role, option in OF_USER.items()}
    names |= {role: f"{option} in [region {region}]" for role, option in OF_REGION.items()}
    words = f"{user}@{region} of euca2ools.ini" if user else f"{region} of euca2ools.ini"
    return Source(words, settings, names, f"is not set in {_name_files(ini)}",
                  "add it to the section, or name another with USER@REGION")  # fmt: skip


def _find_user(ini: Ini, region: str) -> str:
    found = (look_up(ini.regions, region, option) for option in USER_OPTIONS)
    return next((each.setting.value for each in found if each and each.setting.value), "")


def _list_settings(sections: Sections, name: str, options: Mapping[Role, str]) -> Iterator[tuple[Role, Setting]]:
    for role, option in options.items():
        if (found := look_up(sections, name, option)) and (value := found.setting.value):
            value = os.path.expandvars(value) if role in PATHS else value
            yield role, Setting(value, found.setting.label)


def _name_region(sections: Sections, region: str) -> dict[Role, Setting]:
    """The name that signatures have: of the section that EC2's URL is of, without its group."""
    found = look_up(sections, region, "ec2-url")
    section = found.section if found and "*" not in found.section else region
    name = sections.get(section, {}).get("name") or Setting(section.rpartition(":")[2], f"[region {section}]")
    return {"region": name}


def _name_files(ini: Ini) -> str:
    files = ", ".join(map(str, ini.files)) or f"{SYSTEM_FOLDER} or {USER_FOLDER}, where no ini file is"
    unread = f" (not readable: {', '.join(map(str, ini.unreadable))})" if ini.unreadable else ""
    return files + unread


def _describe_unknown(ini: Ini, region: str, place: str) -> HostError:
    if not region:
        return HostError(f"default-region is not set in [global] of {_name_files(ini)}", place=place,
                         next_step="write USER@REGION")  # fmt: skip
    known = [name for name in ini.regions if not re.search(r"\*", name)]
    return HostError(f"there is no [region {region}] in {_name_files(ini)}", place=place,
                     next_step=f"name one of {', '.join(sorted(known))}" if known else "write it")  # fmt: skip
