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


def _rows(text: str, fields: int) -> dict[str, list[str]]:
    """Lines by their first field, the first of a name as the C library takes it, filled up to `fields`."""
    rows: dict[str, list[str]] = {}
    for line in text.split("\n"):
        row = line.split(":")
        if line.strip():
            rows.setdefault(row[0], row + [""] * (fields - len(row)))
    return rows


def _all_rows(files: AccountFiles) -> list[dict[str, list[str]]]:
    return [_rows(files.passwd, 7), _rows(files.shadow, 9), _rows(files.group, 4), _rows(files.gshadow, 4)]


def _text(rows: dict[str, list[str]]) -> str:
    return "".join(":".join(row) + "\n" for row in rows.values())


def enable_shadow(files: AccountFiles, epoch: int) -> AccountFiles:
    """What pwconv and grpconv do: every password moves to shadow, 'x' stays behind.

    The day of the last change is that of the image's date, so that it is the same every time.
    Formats: passwd(5), shadow(5), gshadow(5).
    """
    day = str(epoch // SECONDS_PER_DAY)
    passwd, shadow, group, gshadow = _all_rows(files)
    for name, row in passwd.items():
        entry = shadow.setdefault(name, [name, "*", day, "0", "99999", "7", "", "", ""])
        entry[1] = _move_password(row, entry[1])
        # 0 asks for a new password at the first login.
        entry[2] = day if entry[2] not in ("", "0") else entry[2]
    for name, row in group.items():
        entry = gshadow.setdefault(name, [name, "*", "", ""])
        entry[1], entry[3] = _move_password(row, entry[1]), row[3]
    return AccountFiles(_text(passwd), _text({name: shadow[name] for name in shadow if name in passwd}),
                        _text(group), _text({name: gshadow[name] for name in gshadow if name in group}))  # fmt: skip


def _move_password(row: list[str], shadowed: str) -> str:
    """Leave 'x' in a row; what was there, or what is shadowed already. An empty one would let everybody in."""
    password = row[1] if row[1] not in ("x", "") else shadowed
    row[1] = "x"
    return password


def set_password(files: AccountFiles, name: str, password_hash: str) -> AccountFiles:
    """Set one account's hash in shadow."""
    shadow = _rows(files.shadow, 9)
    if name not in shadow:
        raise BuildError(f"the image has no user {name}", place="/etc/shadow")
    shadow[name][1] = password_hash
    return AccountFiles(files.passwd, _text(shadow), files.group, files.gshadow)


def add_account(files: AccountFiles, account: Account, epoch: int) -> AccountFiles:
    """Add a user with a group of the same name and number, and enter it in its other groups."""
    passwd, shadow, group, gshadow = _all_rows(files)
    for kind, rows in (("user", passwd), ("group", group)):
        _require_free(kind, account, rows)
    unknown = [name for name in account.groups if name not in group]
    if unknown:
        raise BuildError(f"the image has no group {', '.join(unknown)}", place="configure.users")
    number = str(account.uid)
    passwd[account.name] = [account.name, "x", number, number, "", account.home, account.shell]
    day = str(epoch // SECONDS_PER_DAY)
    shadow[account.name] = [account.name, account.password_hash, day, "0", "99999", "7", "", "", ""]
    group[account.name] = [account.name, "x", number, ""]
    gshadow[account.name] = [account.name, "!", "", ""]
    for name in dict.fromkeys(account.groups):
        for row in (group[name], gshadow.setdefault(name, [name, "*", "", ""])):
            row[3] = ",".join(dict.fromkeys([*filter(None, row[3].split(",")), account.name]))
    return AccountFiles(_text(passwd), _text(shadow), _text(group), _text(gshadow))


def _require_free(kind: str, account: Account, rows: dict[str, list[str]]) -> None:
    """Raise BuildError when the packages made a user or group of this name or number."""
    taken = {row[2]: name for name, row in rows.items()}
    if account.name in rows or str(account.uid) in taken:
        other = account.name if account.name in rows else taken[str(account.uid)]
        raise BuildError(f"{account.name} ({account.uid}) is in the way of the {kind} {other} of the packages",
                         place="configure.users", next_step="give another name, or another uid")  # fmt: skip
