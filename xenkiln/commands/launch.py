"""launch:NAME: an instance of what was published, as ec2-run-instances starts it."""

from __future__ import annotations

import time
from dataclasses import fields
from pathlib import Path

from xenkiln.errors import BuildError, HostError, XenkilnError
from xenkiln.families.dom0 import MODULES
from xenkiln.lab.readiness import find_lab_problems, make_lab
from xenkiln.model.loader import LoadedCloud
from xenkiln.model.publish import Launch
from xenkiln.publishing.launching import Wishes, launch
from xenkiln.publishing.opening import open_target, require_publishable
from xenkiln.publishing.ownership import hold_records
from xenkiln.publishing.subject import Subject
from xenkiln.publishing.user_data import find_user_data
from xenkiln.system.layout import build_folder
from xenkiln.system.progress import show_progress

GUEST_MIB = 256
"""Of the lab's smallest instance; a larger one may lack memory later, and then says so."""


def check(subject: Subject, cloud: LoadedCloud) -> None:
    """Refuse before anything is built or asked for."""
    require_publishable(subject, cloud, ("access",))
    find_user_data(subject, cloud)
    if cloud.recipe.embedded and (problems := find_lab_problems(make_lab(build_folder(), MODULES), GUEST_MIB)):
        raise XenkilnError("\n".join(map(str, problems)))


def run(subject: Subject, cloud: LoadedCloud, user_data_file: str = "", **options: str) -> None:
    """Start one and wait until it runs; one that runs already stays the one, unless other options are given.

    user_data_file: in place of the recipe's.
    """
    wishes = read_wishes(options)
    started = time.monotonic()
    title = f"launch:{subject.name}"
    user_data = find_user_data(subject, cloud, Path(user_data_file) if user_data_file else None)
    with show_progress(title) as tell:
        target = open_target(cloud, tell)
        with hold_records(subject, target) as records:
            found = launch(subject, target, records, wishes, user_data, tell)
    instance = found.instance
    if user_data_file and not found.is_new:
        again = f"doit terminate:{subject.name} cloud={target.name}, then launch it again"
        raise BuildError(f"{instance.id} is running already, and user-data is given to a new instance alone",
                         place=f"{subject.name} at {target.name}", next_step=again)  # fmt: skip
    ways = [instance.public_name, *(f"{key} {value}" for key, value in instance.tags if key == "ssh")]
    seconds = f"{time.monotonic() - started:.1f} s" if found.is_new else "is running already"
    print(f"{title}  {instance.id}  {seconds}, {', '.join(filter(None, [instance.kind, instance.zone, *ways]))}")
    if found.beside:
        print(f"{title}  of the same image run, started by somebody else: {', '.join(found.beside)}")


def read_wishes(options: dict[str, str]) -> Wishes:
    """Options of the command line, held against the model of the recipe's own section."""
    given = {name: text for name, text in options.items() if text}
    groups = tuple(given.pop("security_groups", "").split(",")) if "security_groups" in given else ()
    try:
        Launch.model_validate({**given, **({"security_groups": groups} if groups else {})})
    except ValueError as error:
        names = sorted({str(detail["loc"][0]) for detail in error.errors()})  # type: ignore[attr-defined]  # pydantic's
        raise HostError(f"not as it should be: {', '.join(f'{name} {options[name]!r}' for name in names)}",
                        place="launch", next_step="doit help launch:NAME tells the options") from error  # fmt: skip
    known = {field.name for field in fields(Wishes)}
    return Wishes(**{name: text for name, text in given.items() if name in known}, security_groups=groups)
