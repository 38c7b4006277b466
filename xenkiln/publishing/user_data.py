"""The user-data of an instance: the recipe's template, filled in."""

from __future__ import annotations

from xenkiln.clouds.userdata import make_user_data
from xenkiln.errors import HostError
from xenkiln.publishing.subject import Subject


def find_user_data(subject: Subject, cloud: str) -> bytes:
    """The bytes that the instance gets, b"" where its recipe names none; raises for a template that is wrong."""
    launch = subject.launch
    if launch.user_data is None:
        return b""
    path = subject.folder / launch.user_data
    try:
        content = path.read_bytes()
    except OSError as error:
        raise HostError(f"cannot be read: {error.strerror}", place=str(path),
                        next_step="is it the template that launch.user_data means?") from error  # fmt: skip
    values = {"name": subject.name, "hostname": subject.hostname, "arch": subject.arch, "cloud": cloud,
              **launch.variables}  # fmt: skip
    return make_user_data(content, values, launch.user_data)
