"""cloud:CLOUD: what is there, as the ec2-describe commands show it: zones and their capacity, images, instances."""

from __future__ import annotations

from xenkiln.commands.instances import COLUMNS, describe
from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.opening import open_target
from xenkiln.system.progress import show_progress
from xenkiln.system.tables import print_table

IMAGE_COLUMNS = ("image", "location", "state", "kind", "kernel", "ramdisk")


def run(cloud: LoadedCloud) -> None:
    """Ask all of it, then print it."""
    with show_progress(f"cloud:{cloud.name}") as tell:
        target = open_target(cloud, tell)
        zones, images = target.compute.list_zones(), target.compute.list_images()
        instances, keypairs = target.compute.list_instances(), target.compute.list_keypairs()
    print(f"{cloud.name}  {cloud.recipe.summary}: {cloud.recipe.dialect},"
          f" {target.access.ec2_url or target.access.region}")  # fmt: skip
    print(f"key pairs: {', '.join(keypairs) or 'none'}")
    print_table("zones", ("zone", "state"), [[zone.name, zone.state] for zone in zones])
    print_table("images", IMAGE_COLUMNS, [[each.id, each.location, each.state, each.kind, each.kernel_id,
                                           each.ramdisk_id] for each in images])  # fmt: skip
    print_table("instances", COLUMNS, [describe(each) for each in instances])
