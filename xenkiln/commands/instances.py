"""instances: what of yours runs at a cloud, as ec2-describe-instances shows it."""

from __future__ import annotations

from xenkiln.clouds.compute import Instance
from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.opening import open_target
from xenkiln.system.progress import show_progress
from xenkiln.system.tables import print_table

COLUMNS = ("instance", "image", "state", "type", "zone", "address", "ssh", "key pair")


def run(cloud: LoadedCloud) -> None:
    """A table, or a line that says that there are none."""
    with show_progress("instances") as tell:
        found = open_target(cloud, tell).compute.list_instances()
    print_table(f"instances at {cloud.name}", COLUMNS, [describe(each) for each in found])


def describe(instance: Instance) -> list[str]:
    """The row of one."""
    ssh = dict(instance.tags).get("ssh", "")
    return [instance.id, instance.image_id, instance.state, instance.kind, instance.zone, instance.public_name, ssh,
            instance.keypair]  # fmt: skip
