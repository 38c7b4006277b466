"""The texts of passwd, shadow, group and gshadow: shadow passwords, root's password, users."""

from __future__ import annotations

from dataclasses import dataclass

from xenkiln.errors import BuildError

SECONDS_PER_DAY = 86400


@dataclass(frozen=True)
class Account:
    """A user to be in the image; `groups` are those besides the one of the same name."""

    name: str
    uid: int
    home: str
    shell: str
    password_hash: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class AccountFiles:
    """The four files as text; shadow and gshadow may be empty, as before pwconv."""

    passwd: str
    shadow: str
    group: str
    gshadow: str


def _rows(text: str) -> dict[str, list[str]]:
    return {line.split(":", 1)[0]: line.split(":") for line in text.splitlines() if line.strip()}


def _text(rows: dict[str, list[str]]) -> str:
    return "".join(":".join(row) + "\n" for row in rows.values())


def enable_shadow(files: AccountFiles, epoch: int) -> AccountFiles:
    """What pwconv and grpconv do: every password moves to shadow, 'x' stays behind.

    The day of the last change is that of the image's date, so that it is the same every time.
    Formats: passwd(5), shadow(5), gshadow(5).
    """
    day = str(epoch // SECONDS_PER_DAY)
    passwd, shadow = _rows(files.passwd), _rows(files.shadow)
    group, gshadow = _rows(files.group), _rows(files.gshadow)
    for name, row in passwd.items():
        if name not in shadow:
            shadow[name] = [name, row[1] if row[1] not in ("x", "") else "*", day, "0", "99999", "7", "", "", ""]
        row[1] = "x"
    for row in shadow.values():
        row[2] = day if row[2] else ""
    for name, row in group.items():
        gshadow.setdefault(name, [name, row[1] if row[1] not in ("x", "") else "*", "", row[3]])
        row[1] = "x"
    keep = {name: row for name, row in shadow.items() if name in passwd}
    return AccountFiles(_text(passwd), _text(keep), _text(group), _text(gshadow))


def set_password(files: AccountFiles, name: str, password_hash: str) -> AccountFiles:
    """Set one account's hash in shadow."""
    shadow = _rows(files.shadow)
    if name not in shadow:
        raise BuildError(f"the image has no user {name}", place="/etc/shadow")
    shadow[name][1] = password_hash
    return AccountFiles(files.passwd, _text(shadow), files.group, files.gshadow)


def add_account(files: AccountFiles, account: Account, epoch: int) -> AccountFiles:
    """Add a user with a group of the same name and number, and enter it in its other groups."""
    passwd, shadow = _rows(files.passwd), _rows(files.shadow)
    group, gshadow = _rows(files.group), _rows(files.gshadow)
    taken = {row[2]: name for name, row in passwd.items()}
    if account.name in passwd or str(account.uid) in taken:
        other = account.name if account.name in passwd else taken[str(account.uid)]
        raise BuildError(f"user {account.name} ({account.uid}) is in the way of {other}, which the packages made",
                         place="configure.users")  # fmt: skip
    unknown = [name for name in account.groups if name not in group]
    if unknown:
        raise BuildError(f"the image has no group {', '.join(unknown)}", place="configure.users")
    number = str(account.uid)
    passwd[account.name] = [account.name, "x", number, number, "", account.home, account.shell]
    day = str(epoch // SECONDS_PER_DAY)
    shadow[account.name] = [account.name, account.password_hash, day, "0", "99999", "7", "", "", ""]
    group.setdefault(account.name, [account.name, "x", number, ""])
    gshadow.setdefault(account.name, [account.name, "!", "", ""])
    for name in account.groups:
        for row in (group[name], gshadow[name]):
            row[3] = ",".join([*filter(None, row[3].split(",")), account.name])
    return AccountFiles(_text(passwd), _text(shadow), _text(group), _text(gshadow))
