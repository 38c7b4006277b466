"""The user-data of an instance: the recipe's template, filled in."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

from xenkiln.clouds.dialects import DIALECTS
from xenkiln.clouds.userdata import make_user_data
from xenkiln.errors import BuildError, HostError
from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.subject import Subject


def find_user_data(subject: Subject, cloud: LoadedCloud, file: Path | None = None) -> bytes:
    """The bytes that the instance gets, of `file` or of what its recipe names; b"" where that names none.

    Raises for a template that is wrong, and for what that cloud cannot be told.
    """
    launch = subject.launch
    if file is None and launch.user_data is None:
        return b""
    path = file or subject.folder / str(launch.user_data)
    place = str(file or launch.user_data)
    try:
        content = path.read_bytes()
    except OSError as error:
        meant = "you mean" if file else "launch.user_data means"
        raise HostError(f"cannot be read: {error.strerror}", place=str(path),
                        next_step=f"is it the file that {meant}?") from error  # fmt: skip
    values = {"name": subject.name, "hostname": subject.hostname, "arch": subject.arch, "cloud": cloud.name,
              **launch.variables}  # fmt: skip
    data = make_user_data(content, values, place)
    _require_short(data, cloud, place)
    return data


def _require_short(data: bytes, cloud: LoadedCloud, place: str) -> None:
    """A release that is asked by addresses alone has little room in them."""
    limit = DIALECTS[cloud.recipe.dialect].user_data_characters
    taken = len(quote(base64.b64encode(data), safe=""))
    if limit and taken > limit:
        raise BuildError(
            f"{len(data)} bytes of user-data, which take {taken} characters of a request's address, and"
            f" {cloud.recipe.dialect} has room for {limit}: {limit * 3 // 4} bytes at the most", place=place,
            next_step="have it fetch the rest, or gzip it where cloud-init reads it",
        )  # fmt: skip
