"""A cloud made ready to be talked to: the lab's own is started where it does not run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from xenkiln.errors import XenkilnError
from xenkiln.families.dom0 import MODULES
from xenkiln.lab.cloud.control import start_cloud
from xenkiln.lab.readiness import make_lab
from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.limits import find_broken_names, find_planned_sizes
from xenkiln.publishing.subject import Subject
from xenkiln.publishing.target import Target, find_misfits, make_target
from xenkiln.system.layout import build_folder

PROFILES = {"eucalyptus-1.4": "1.4", "eucalyptus-2": "2.0", "eucalyptus-3.3": "3.4", "eucalyptus-4.2": "4.4"}
"""Of the lab's cloud: the release whose part it takes for a dialect."""


def cloud_folder() -> Path:
    """Where the lab's clouds keep what they have."""
    return build_folder() / "lab" / "cloud"


def open_target(cloud: LoadedCloud, tell: Callable[[str], None]) -> Target:
    """The cloud of this recipe, running where it is the lab's own."""
    if not cloud.recipe.embedded:
        return make_target(cloud)
    lab = make_lab(build_folder(), MODULES)
    state = start_cloud(cloud_folder(), PROFILES[cloud.recipe.dialect], lab, tell)
    return make_target(cloud, state.eucarc)


def list_problems(subject: Subject, cloud: LoadedCloud, wanted: Sequence[str]) -> list[XenkilnError]:
    """Everything that keeps an image from being published there and is known without asking the cloud.

    `wanted` of the user are "access" to the cloud and the "credentials" that bundles are made with.
    """
    target = make_target(cloud)
    problems = [*subject.find_problems(), *find_misfits(subject, target)]
    if "access" in wanted and not problems:
        problems += find_broken_names(subject, target)
    if "credentials" in wanted:
        problems += find_planned_sizes(subject, target)
    if not cloud.recipe.embedded:
        for name in wanted:
            try:
                getattr(target, name)
            except XenkilnError as error:
                problems.append(error)
    return list({str(problem): problem for problem in problems}.values())


def require_publishable(subject: Subject, cloud: LoadedCloud, wanted: Sequence[str] = ()) -> None:
    """Raise with every problem at once."""
    is_amazon = make_target(cloud).dialect.is_amazon
    problems = list_problems(subject, cloud, wanted or (("access",) if is_amazon else ("access", "credentials")))
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise XenkilnError(f"{subject.name} cannot be published at {cloud.name}:\n"
                           + "\n".join(f"- {problem}" for problem in problems))  # fmt: skip
