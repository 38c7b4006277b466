"""deploy:NAME: the image to a Xen host, its configuration into /etc/xen, and the domain started there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xenkiln.domains import delivery as goods
from xenkiln.domains.delivery import ABSENT, OLDER, Delivery
from xenkiln.domains.placement import HostFile, get_directory, list_kinds, place_boot_files
from xenkiln.domains.preflight import describe_states, find_delivery_problems, find_missing_programs
from xenkiln.errors import BuildError, HostError, XenkilnError
from xenkiln.model.domain import Deploy
from xenkiln.model.loader import LoadedImage
from xenkiln.stages import domain
from xenkiln.system.execution import Context
from xenkiln.system.layout import Paths
from xenkiln.system.steps import Do, Step

if TYPE_CHECKING:
    from xenkiln.system.xenhost import XenHost

SUMMARY = "take the image to a Xen host and start its domain there"
NEEDS = ("seal", "domain")

OnHost = Callable[["XenHost", Context], None]


@dataclass(frozen=True)
class Inputs:
    """The deploy section, and the domain that decides what lies where."""

    deploy: Deploy
    domain: domain.Inputs


def slice_recipe(loaded: LoadedImage) -> Inputs | None:
    """The deploy section; None where the recipe has none."""
    deploy = loaded.recipe.deploy
    return Inputs(deploy, domain.slice_recipe(loaded)) if deploy else None


def list_outputs(inputs: Inputs, paths: Paths) -> list[Path]:
    """None here: what it makes is on the Xen host, and asked for there each time."""
    return []


def list_references(inputs: Inputs, paths: Paths) -> list[Path]:
    """None."""
    return []


def find_problems(inputs: Inputs, paths: Paths) -> list[XenkilnError]:
    """A toolstack that cannot run this kind of domain."""
    if inputs.deploy.toolstack in list_kinds(inputs.domain.domain):
        return []
    fact = "xm is older than pvh domains and cannot start one"
    place = f"{inputs.domain.name}: deploy.toolstack"
    return [BuildError(fact, place=place, next_step="toolstack: xl, or domain.type: pv")]


def describe_delivery(inputs: Inputs, paths: Paths) -> Delivery:
    """What goes where."""
    name, section = inputs.domain.name, inputs.domain.domain
    files = (*place_boot_files(name, section), *inputs.domain.disks)
    return Delivery(name, section.name or name, inputs.deploy, get_directory(name, section), files, paths.images)


def make_steps(inputs: Inputs, paths: Paths) -> list[Step]:
    """Look, send what is missing, write the configuration, start. Each step asks the host anew."""
    delivery = describe_delivery(inputs, paths)

    def on_host(function: OnHost) -> Callable[[Context], None]:
        def run(context: Context) -> None:
            from xenkiln.system.xenhost import open_host  # paramiko is loaded by those alone who deploy

            with open_host(inputs.deploy, context.runner) as host:
                function(host, context)

        return run

    def look(host: XenHost, context: Context) -> None:
        look_at_host(delivery, host, context, find_problems(inputs, paths))

    def start(host: XenHost, context: Context) -> None:
        how = goods.start_domain(delivery, host)
        context.summary += f"; {delivery.domain_name} {how} on {inputs.deploy.host}; console: {delivery.console}"

    there = inputs.deploy.host
    steps: list[Step] = [Do(f"look at {there}: programs, space, what is there already", on_host(look))]
    steps += [
        Do(f"send {file.source} to {there}:{file.path}", on_host(make_sender(delivery, file)))
        for file in delivery.own_files
    ]
    steps.append(Do(f"write {there}:{delivery.config}", on_host(make_config_sender(delivery))))
    if inputs.deploy.start:
        steps.append(Do(f"start {delivery.domain_name} on {there}", on_host(start)))
    return steps


def look_at_host(delivery: Delivery, host: XenHost, context: Context, known: list[XenkilnError]) -> None:
    """Find out what is to be sent, or raise everything that is in the way; `known` is what was before we looked."""
    problems = [*known, *find_missing_programs(delivery, host)]
    if not problems:
        is_running = delivery.domain_name in host.list_domains()
        digests = goods.hash_files(delivery)
        states = goods.find_states(delivery, digests, host, is_running=is_running)
        context.values |= {f"sha256_{path}": digest for path, digest in digests.items()}
        context.values |= {f"there_{path}": state for path, state in states.items()}
        context.summary = describe_states(states)
        problems += find_delivery_problems(delivery, states, host, is_running=is_running)
    if problems:
        raise problems[0] if len(problems) == 1 else HostError("\n".join(f"- {problem}" for problem in problems))


def make_sender(delivery: Delivery, file: HostFile) -> OnHost:
    """What sends one file, unless it was found there."""

    def send(host: XenHost, context: Context) -> None:
        if context.values[f"there_{file.path}"] not in (ABSENT, OLDER):
            return

        def show(done: int, total: int) -> None:
            context.tell(f"send {file.source}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")

        goods.send_file(delivery, file, context.values[f"sha256_{file.path}"], host, show)
        note_sent(context, file.source or "")

    return send


def make_config_sender(delivery: Delivery) -> OnHost:
    """What writes the configuration, unless it was found there."""

    def send(host: XenHost, context: Context) -> None:
        if context.values[f"there_{delivery.config}"] in (ABSENT, OLDER):
            goods.send_config(delivery, host)
            note_sent(context, delivery.local_config.name)

    return send


def note_sent(context: Context, name: str) -> None:
    """Add a file to the line that the user sees in the end."""
    context.summary += f", {name}" if context.summary else f"sent {name}"
