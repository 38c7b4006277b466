"""Who the user is, as variables say it: those of the environment, or of an eucarc."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from xenkiln.clouds.eucarc import Eucarc, read_eucarc
from xenkiln.clouds.settings import Role, Setting, Source, expand_path, read_file, warn_of_readers
from xenkiln.errors import HostError

EUCARC = Path("~/.euca/eucarc")
"""Where euca2ools looks too."""
PAIRS = (("EC2_ACCESS_KEY", "EC2_SECRET_KEY"), ("AWS_ACCESS_KEY", "AWS_SECRET_KEY"),
         ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))  # fmt: skip
"""What Eucalyptus, the tools of EC2 and all newer ones call the two; half of one does not go with half of another."""
TOKENS = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
KEY_FILE = "AWS_CREDENTIAL_FILE"
"""iamrc, which Eucalyptus has given since 3.0."""
VARIABLES: dict[Role, tuple[str, ...]] = {
    "access_key": tuple(access for access, _ in PAIRS),
    "secret_key": tuple(secret for _, secret in PAIRS),
    "ec2_url": ("EC2_URL",),
    "s3_url": ("S3_URL",),
    "account": ("EC2_ACCOUNT_NUMBER", "EC2_USER_ID"),
    "private_key": ("EC2_PRIVATE_KEY", "EUCA_PRIVATE_KEY"),
    "certificate": ("EC2_CERT", "EUCA_CERT"),
    "cloud_certificate": ("EUCALYPTUS_CERT",),
}
"""From 3.0 on EC2_USER_ID is the user's own number, and EC2_ACCOUNT_NUMBER the one that a manifest has."""
NAMES: dict[Role, str] = {role: " or ".join(names) for role, names in VARIABLES.items()}
BUNDLING: tuple[Role, ...] = ("private_key", "certificate", "cloud_certificate", "account")
OWN_PREFIXES = ("EC2_", "AWS_", "EUCA", "S3_")


def read_variables(values: Mapping[str, str], file: Path | None = None) -> dict[Role, Setting]:
    """What they say; `file` is the eucarc that they are of. A credential file that they name is read."""
    where = f"{file}: " if file else ""
    found: dict[Role, Setting] = {}
    for role, names in VARIABLES.items():
        for name in names:
            if value := values.get(name):
                found.setdefault(role, Setting(value, where + name))
    found.pop("access_key", None)
    found.pop("secret_key", None)
    return found | _read_pair(values, where)


def _read_pair(values: Mapping[str, str], where: str) -> dict[Role, Setting]:
    complete = [pair for pair in PAIRS if all(values.get(name) for name in pair)]
    if not complete and values.get(KEY_FILE):
        path = expand_path(values[KEY_FILE], where + KEY_FILE)
        return read_key_file(path, f"{where}{KEY_FILE}={path}")
    begun = [pair for pair in PAIRS if any(values.get(name) for name in pair)]
    if not begun:
        return {}
    pair = (complete or begun)[0]
    roles: tuple[Role, Role] = ("access_key", "secret_key")
    found = {role: Setting(values[name], where + name)
             for role, name in zip(roles, pair, strict=True) if values.get(name)}  # fmt: skip
    # A token is of the newer names: it goes with the older where they are the same key.
    if any(values.get(access) == values.get(pair[0]) for access, _ in PAIRS[1:]):
        for name in TOKENS:
            if token := values.get(name):
                found.setdefault("token", Setting(token, where + name))
    return found


def read_key_file(path: Path, place: str) -> dict[Role, Setting]:
    """The two keys of an iamrc, `AWSAccessKeyId=...` and `AWSSecretKey=...`, a line each."""
    text = read_file(path, place, "correct it, or unset it").decode(errors="replace")
    warn_of_readers(path)
    names: dict[str, Role] = {"AWSAccessKeyId": "access_key", "AWSSecretKey": "secret_key"}
    found: dict[Role, Setting] = {}
    for line in text.splitlines():
        name, _, value = (part.strip() for part in line.split("#")[0].partition("="))
        if name in names and value:
            found[names[name]] = Setting(value, f"{path}: {name}")
    return found


def read_environment(environment: Mapping[str, str]) -> Source:
    """The environment alone."""
    return Source("the environment", read_variables(environment), NAMES, "is not set in the environment",
                  f"source your cloud's eucarc, or put it at {EUCARC}")  # fmt: skip


def read_named_eucarc(path: Path, environment: Mapping[str, str], place: str) -> Source:
    """The eucarc that a recipe names; nothing that the environment says of a cloud has a part in it."""
    place = f"{place}: credentials.eucarc: {path}"
    eucarc = _read_values(path, _drop_own(environment), place)
    if eucarc is None:
        raise HostError("cannot be read: there is no such file", place=place,
                        next_step="unpack your cloud's credentials there, or correct it")  # fmt: skip
    return Source(str(path), read_variables(eucarc.values, path), NAMES, f"is not set in {path}",
                  "take the eucarc that your cloud gives you", unknown=_list_unknown(eucarc, path))  # fmt: skip


def _list_unknown(eucarc: Eucarc, path: Path) -> dict[Role, str]:
    """The variable of each setting that only a shell could tell, and its line; other words for it are looked at too."""
    found: dict[Role, str] = {}
    for role, names in VARIABLES.items():
        ways = (*names, KEY_FILE) if role in ("access_key", "secret_key") else names
        if name := next((name for name in ways if name in eucarc.unknown), ""):
            found[role] = f"{path}: line {eucarc.unknown[name]}: {name}"
    return found


def read_own(environment: Mapping[str, str], *, is_complete: bool) -> Source:
    """The environment where it has all that gives access, else an eucarc: that beside a private key it names.

    A sourced eucarc of 1.4 leaves the account's number in an alias: what bundling needs is filled from the file.
    """
    own = read_environment(environment)
    named = own.get("private_key")
    if is_complete and not named:
        return own
    path = expand_path(named, own.name("private_key")).parent / "eucarc" if named else EUCARC.expanduser()
    eucarc = _read_values(path, _drop_own(environment), str(path))
    if eucarc is None:
        absence = f"is not set, neither in the environment nor in {path}, which is not there"
        return Source(own.words, own.settings, NAMES, absence, own.advice)
    kept, unknown = read_variables(eucarc.values, path), _list_unknown(eucarc, path)
    bundling = {role: own.settings[role] for role in BUNDLING if named and role in own.settings}
    if is_complete:
        if not _is_same_user(own.settings, kept):
            return Source(own.words, own.settings, NAMES,
                          f"is not set in the environment, and {path} is of another user", own.advice)  # fmt: skip
        filled = {role: kept[role] for role in BUNDLING if role in kept}
        return Source(f"the environment and {path}", {**filled, **own.settings}, NAMES,
                      f"is not set, neither in the environment nor in {path}", own.advice,
                      unknown=unknown)  # fmt: skip
    unused = frozenset(own.settings) - frozenset(bundling)
    return Source(str(path), {**kept, **bundling}, NAMES, f"is not set, neither in the environment nor in {path}",
                  own.advice, unused, unknown)  # fmt: skip


def _is_same_user(one: Mapping[Role, Setting], other: Mapping[Role, Setting]) -> bool:
    return "access_key" not in other or one["access_key"].value == other["access_key"].value


def _drop_own(environment: Mapping[str, str]) -> dict[str, str]:
    """What an eucarc may refer to: HOME and the like, and nothing that another one has set."""
    return {name: value for name, value in environment.items() if not name.startswith(OWN_PREFIXES)}


def _read_values(path: Path, environment: Mapping[str, str], place: str) -> Eucarc | None:
    try:
        eucarc = read_eucarc(path, environment)
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        raise HostError("is a folder, and no eucarc", place=place, next_step=f"name the file: {path}/eucarc") from None
    except (OSError, ValueError) as error:
        fact = error.strerror if isinstance(error, OSError) else "no file can have this name"
        raise HostError(f"cannot be read: {fact}", place=place,
                        next_step="make it readable for you alone: chmod 600") from None  # fmt: skip
    warn_of_readers(path)
    return eucarc
