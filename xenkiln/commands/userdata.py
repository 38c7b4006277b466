"""userdata:NAME: what an instance of the image would get as its user-data."""

from __future__ import annotations

import sys

from xenkiln.clouds.userdata import unpack_user_data
from xenkiln.errors import BuildError
from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.subject import Subject
from xenkiln.publishing.user_data import find_user_data


def run(subject: Subject, cloud: LoadedCloud) -> None:
    """Print it, byte for byte; what is gzip'd is printed unpacked."""
    data = find_user_data(subject, cloud)
    if not data:
        raise BuildError("has no launch.user_data", place=subject.place,
                         next_step="name a template there, from the folder of the recipe")  # fmt: skip
    sys.stdout.flush()
    sys.stdout.buffer.write(unpack_user_data(data, str(subject.launch.user_data)))
    sys.stdout.buffer.flush()
